"""PURE: who may associate, what may be stored, and which status answers what may not.

Default deny: a caller needs a peer in the settings with its AE title and an address that fits. Every refusal
names the setting that would allow it.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from config import guards_off
from config.certificates import Certificate
from config.identity import UPLOAD_AE
from config.settings import PeerSettings, Settings
from listener.dataset_scan import (
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    DatasetScan,
)
from listener.pdu import REJECT_CALLED_AE, REJECT_CALLING_AE

# Status of a C-STORE-RSP: PS3.4 table B.2-1, PS3.7 annex C.
SUCCESS = 0x0000
SOP_INSTANCE_INVALID = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122  # of STOW-RS alone, PS3.18 table I.2-2
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
DATASET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

UID_LENGTH_MAX = 64
REMEMBERED_MAX = 4096

_UID = re.compile(rb"[0-9]+(\.[0-9]+)*\Z")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What the walk of a dataset keeps: one byte more than a UID may have shows that it is too long.
IDENTITY: Mapping[int, int] = dict.fromkeys(
    (SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID), UID_LENGTH_MAX + 1
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association is refused, the A-ASSOCIATE-RJ to send, and the setting that would allow it."""

    answer: tuple[int, int, int]
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an instance is refused: the status, and a comment without anything of a patient."""

    status: int
    comment: str


def remedy_of(refusal: Refusal) -> str:
    """What a person can do about a refused instance."""
    match refusal.status:
        case 0xA700:
            return (
                "Free disk space or lower retention.days; a larger instance needs listener.instance_gib_max."
            )
        case 0x0124 if "may_ask_commitment" in refusal.comment:
            return "Set may_ask_commitment of this peer to true if it may ask for that."
        case 0x0124:
            return "Set may_send of this peer to true if it may send images and notices."
        case 0x0122:
            return "Correct the sender: it names another SOP class than it proposed."
        case _:
            return "Correct the object at the sender and send it again; nothing of it was kept."


@dataclass(frozen=True, slots=True)
class _Allowed:
    name: str
    may_send: bool
    may_ask_commitment: bool
    networks: tuple[_Network, ...]
    certificates: tuple[str, ...]


class Admission:
    """The allow-list of one set of settings.

    Parameters
    ----------
    addresses_of_hosts : addresses of the peers' host names, resolved by the caller
    """

    def __init__(self, settings: Settings, addresses_of_hosts: Mapping[str, Iterable[str]]) -> None:
        self._ae_title = settings.node.ae_title
        self._peers: dict[str, list[_Allowed]] = {}
        self._takes_uploads = settings.web.upload
        self._may_send: dict[tuple[str, str], bool] = {}
        for peer in settings.peers:
            networks, may_ask = _networks(peer, addresses_of_hosts), peer.may_ask_commitment
            allowed = _Allowed(peer.name, peer.may_send, may_ask, networks, peer.certificates)
            self._peers.setdefault(peer.ae_title, []).append(allowed)

    @property
    def ae_titles(self) -> frozenset[str]:
        """Every AE title that may associate."""
        return frozenset(self._peers)

    def associate(
        self, *, calling_ae: str, called_ae: str, address: str, certificate: Certificate | None = None
    ) -> Rejection | None:
        """Why this caller may not associate; None: it may.

        Parameters
        ----------
        certificate : that it showed, verified; None: it came without TLS
        """
        if called_ae != self._ae_title:
            return Rejection(
                REJECT_CALLED_AE,
                f"it called {called_ae or 'nobody'}; this node is {self._ae_title}",
                f"Let the peer call {self._ae_title}, or change node.ae_title.",
            )
        peers = self._peers.get(calling_ae)
        if not peers:
            return Rejection(
                REJECT_CALLING_AE,
                "no peer with this AE title is configured",
                f"If it may send, add a peer with ae_title {calling_ae} and addresses [{address}] to peers.",
            )
        here = self._all_at(peers, address)
        if not here:
            return Rejection(
                REJECT_CALLING_AE,
                "this AE title may not call from this address",
                f"If it may, add {address} to the addresses of peer {peers[0].name}.",
            )
        return _foreign(here, certificate)

    def store(
        self, *, calling_ae: str, address: str, sop_class: bytes, sop_instance: bytes, abstract_syntax: str
    ) -> Refusal | None:
        """Why an instance may not be stored, judged by its C-STORE-RQ alone; None: it may."""
        if not self.may_send(calling_ae, address):
            return Refusal(NOT_AUTHORIZED, "may_send is false for this peer")
        if sop_class.decode("ascii", "replace") != abstract_syntax:
            return Refusal(SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the presentation context")
        if not is_uid(sop_instance):
            return Refusal(SOP_INSTANCE_INVALID, "Affected SOP Instance UID is not a UID")
        return None

    def may_send(self, calling_ae: str, address: str) -> bool:
        """Whether this caller's instances are taken."""
        if self._takes_uploads and calling_ae == UPLOAD_AE:
            return True  # no association can have this AE title: no peer may be called so (config.settings)
        known = self._may_send.get((calling_ae, address))
        if known is None:  # remembered, since it is asked for each instance; only associated callers ask
            peer = self._at(self._peers.get(calling_ae, ()), address)
            known = peer is not None and peer.may_send
            if len(self._may_send) < REMEMBERED_MAX:
                self._may_send[calling_ae, address] = known
        return known

    def may_ask_commitment(self, calling_ae: str, address: str) -> bool:
        """Whether this caller's requests for storage commitment are taken."""
        peer = self._at(self._peers.get(calling_ae, ()), address)
        return peer is not None and peer.may_ask_commitment

    def _at(self, peers: Iterable[_Allowed], address: str) -> _Allowed | None:
        return next(iter(self._all_at(peers, address)), None)

    def _all_at(self, peers: Iterable[_Allowed], address: str) -> list[_Allowed]:
        try:
            caller = ipaddress.ip_address(address)
        except ValueError:
            return []
        return [peer for peer in peers if any(caller in network for network in peer.networks)]


def _foreign(peers: Iterable[_Allowed], certificate: Certificate | None) -> Rejection | None:
    """Why a caller is none of these peers, all of its AE title and address, by the certificate it showed."""
    bound = []
    for peer in peers:
        if not peer.certificates or (certificate is not None and certificate.is_one_of(peer.certificates)):
            return None
        bound.append(peer.name)
    names = " or ".join(bound)
    if certificate is None:
        return Rejection(
            REJECT_CALLING_AE,
            "this AE title is bound to a certificate and called without TLS",
            f"Let the peer call tls.port, or remove the certificates of peer {names}.",
        )
    return Rejection(
        REJECT_CALLING_AE,
        f"this AE title is bound to another certificate than the one shown: {certificate.title}",
        f"If it is the peer's, add {certificate.fingerprint} to the certificates of peer {names}.",
    )


def _networks(peer: PeerSettings, addresses_of_hosts: Mapping[str, Iterable[str]]) -> tuple[_Network, ...]:
    if peer.addresses:
        return tuple(ipaddress.ip_network(item, strict=False) for item in peer.addresses)
    if peer.host is None:
        return ()
    try:
        return (ipaddress.ip_network(peer.host),)
    except ValueError:
        return tuple(ipaddress.ip_network(item) for item in addresses_of_hosts.get(peer.host, ()))


def plain_address(address: str) -> str:
    """An address as the allow-list writes it: no zone, and IPv4 not dressed up as IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def is_uid(value: bytes) -> bool:
    """Whether `value` is a UID by its characters and length (PS3.5 section 9).

    Leading zeros of a component are let pass: devices in use send them, and nothing here depends on them.
    """
    well_formed = 0 < len(value) <= UID_LENGTH_MAX and _UID.match(value) is not None
    return well_formed or not guards_off.is_on("uid-syntax")


def judge(scan: DatasetScan, *, sop_class: bytes, sop_instance: bytes) -> Refusal | None:
    """Why a complete dataset is refused; None: it is what its C-STORE-RQ said."""
    fault = scan.finish()
    if fault is not None and guards_off.is_on("dataset-walk"):
        return Refusal(CANNOT_UNDERSTAND, fault)
    for tag, name, expected in (
        (SOP_CLASS_UID, "SOP Class UID", sop_class),
        (SOP_INSTANCE_UID, "SOP Instance UID", sop_instance),
        (STUDY_INSTANCE_UID, "Study Instance UID", None),
        (SERIES_INSTANCE_UID, "Series Instance UID", None),
    ):
        value = scan.found.get(tag)
        if value is None:
            return Refusal(DATASET_MISMATCH, f"{name} is missing")
        bare = value.rstrip(b"\0 ")
        if not is_uid(bare):
            return Refusal(DATASET_MISMATCH, f"{name} is not a UID")
        if expected is not None and bare != expected and guards_off.is_on("identity"):
            return Refusal(DATASET_MISMATCH, f"{name} is not that of the C-STORE request")
    return None
