"""Everything a site can set, as one typed tree with units in the names and the reason of each default.

The tree is frozen. `config.loading` reads it from one YAML file and the environment; nothing else makes one,
except tests. Descriptions become the comments of `preread config init` and the table in docs/settings.md.
"""

import ipaddress
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from config.certificates import normal_binding
from config.identity import UPLOAD_AE
from config.tokens import is_token_hash

AE_TITLE_LENGTH_MAX = 16  # PS3.5 6.2, VR AE


def _ae_title(value: str) -> str:
    title = value.strip(" ")
    if not title:
        raise ValueError("ae_title is empty; DICOM needs 1 to 16 characters (PS3.5 6.2). Give one.")
    if len(title) > AE_TITLE_LENGTH_MAX:
        raise ValueError(f"ae_title is {len(title)} characters; DICOM allows 16 (PS3.5 6.2). Shorten it.")
    if "\\" in title or not all(" " <= c <= "~" for c in title):
        raise ValueError("ae_title has a backslash, control or non-ASCII character (PS3.5 6.2). Remove it.")
    return title


def is_loopback(host: str) -> bool:
    """Whether a host of the settings is this machine, by what is written."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Branch(BaseModel):
    """One branch of the settings tree: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSettings(Branch):
    """Who this node is."""

    ae_title: str = Field("PREREAD", description="Our AE title, as peers call us.")
    installation: str = Field(
        "preread-1",
        min_length=1,
        max_length=64,
        description="Name of this installation; DeviceSerialNumber of every result.",
    )
    uid_root: str | None = Field(
        None, description="A registered UID root of the site for results; empty uses the UUID arc (2.25)."
    )

    check_ae_title = field_validator("ae_title")(_ae_title)

    @field_validator("uid_root")
    @classmethod
    def _root(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", value) or len(value) > 42:
            raise ValueError("uid_root is not a UID of at most 42 characters (PS3.5 section 9). Correct it.")
        return value


class PeerSettings(Branch):
    """One application entity we talk to."""

    name: str = Field(min_length=1, max_length=64, description="Name shown on pages and used by `send_to`.")
    ae_title: str = Field(description="The peer's AE title, at most 16 characters.")
    host: str | None = Field(None, description="Address to reach the peer; needed to send to it.")
    port: int | None = Field(
        None, ge=1, le=65535, description="Port to reach the peer; needed to send to it."
    )
    addresses: tuple[str, ...] = Field(
        (), description="Addresses or networks it may call from; empty: only its host."
    )
    may_send: bool = Field(True, description="Whether it may push studies to us.")
    may_ask_commitment: bool = Field(
        False,
        description="Whether its requests for storage commitment are answered. What is held here stays only "
        "as long as `retention` keeps it: a scanner that deletes by the answer must ask the archive instead.",
    )
    token_hash: str | None = Field(
        None,
        description="Hash of the token that this peer shows when it sends by STOW-RS, made by "
        "`preread config token`; empty: it may not.",
    )
    quiet_seconds: float | None = Field(
        None, gt=0, le=86400, description="Quiet period for studies of this peer; empty: the listener's."
    )
    notices_about: Literal["own", "any", "none"] = Field(
        "own",
        description="Studies that its MPPS, availability notices and UPS may close or keep open: those it "
        "sends itself, any (a scanner whose images the PACS sends), or none (only noted on the timeline).",
    )
    ask_counts: bool = Field(
        False,
        description="Whether to ask it by C-FIND how many instances a study of its own has; needs host and "
        "port, and a peer that sends us whole studies.",
    )
    fetch_missing: Literal["no", "c-move", "c-get"] = Field(
        "no",
        description="Whether and how to ask it for images of its studies that were stated or counted and did "
        "not come in the quiet period; needs host and port, and that it lets our AE title retrieve.",
    )
    send_to: tuple[str, ...] | None = Field(
        None,
        description="Names of peers that get its results; empty: itself, when it has host and port.",
    )
    tls: bool = Field(False, description="Whether we call it by TLS, showing `tls.certificate`.")
    certificates: tuple[str, ...] = Field(
        (),
        description="Certificates it is bound to: it may then call by TLS alone and must show one of them, "
        "also when we call it. `sha256:` and a fingerprint, or the common name or DNS name of a certificate "
        "that `tls.trusted` vouches for; empty: any trusted certificate, and plain DICOM where that is on.",
    )

    check_ae_title = field_validator("ae_title")(_ae_title)

    @model_validator(mode="after")
    def _reachable_to_be_asked(self) -> "PeerSettings":
        if self.ask_counts and (self.host is None or self.port is None):
            raise ValueError(f"peer {self.name!r}: ask_counts needs its host and port. Add them.")
        if self.fetch_missing != "no" and (self.host is None or self.port is None or not self.may_send):
            raise ValueError(
                f"peer {self.name!r}: fetch_missing needs its host and port, and may_send. Add them."
            )
        return self

    @field_validator("addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            try:
                ipaddress.ip_network(item, strict=False)
            except ValueError:
                raise ValueError(
                    f"addresses: {item!r} is neither an IP address nor a network (10.1.0.0/16). Correct it."
                ) from None
        return value

    @field_validator("certificates")
    @classmethod
    def _bindings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(normal_binding(entry) for entry in value)

    @field_validator("token_hash")
    @classmethod
    def _hash(cls, value: str | None) -> str | None:
        if value is not None and not is_token_hash(value):
            raise ValueError("token_hash is no hash of a token. Make one with `preread config token`.")
        return value


class DatabaseSettings(Branch):
    """Where rows are kept."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL, for example postgresql+psycopg://preread@db/preread; "
        "empty: SQLite in the state folder.",
    )


class ListenerSettings(Branch):
    """How studies come in."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; anything but loopback needs `plain`. See `tls`, too."
    )
    port: int = Field(11112, ge=0, le=65535, description="Port to listen on; 11112 is registered for DICOM.")
    plain: bool = Field(
        False,
        description="Whether other machines may send without TLS: images and patients' names then cross the "
        "network in the clear, and an AE title is as good as the address it calls from.",
    )
    quiet_seconds: float = Field(
        30.0,
        gt=0,
        le=86400,
        description="A study with no new image for so long is whole; scanners pause 5 to 20 s.",
    )
    quiet_seconds_by_modality: dict[str, float] = Field(
        default_factory=dict, description="Other quiet periods by modality, for example {US: 120}."
    )
    quiet_learnt: bool = Field(
        False,
        description="Whether the quiet period of a peer without one of its own is learnt, by modality, from "
        "the longest pauses within its studies that are still here.",
    )
    quiet_learnt_seconds_min: float = Field(
        10.0, gt=0, le=86400, description="Shortest quiet period that is learnt."
    )
    quiet_learnt_seconds_max: float = Field(
        120.0, gt=0, le=86400, description="Longest quiet period that is learnt."
    )
    quiet_learnt_studies_min: int = Field(
        30, ge=1, le=200, description="Studies of a peer and modality that are needed to learn."
    )
    open_hours_max: float = Field(
        12.0,
        gt=0,
        le=168,
        description="A study still receiving after so long is closed as partial and analysed.",
    )
    missing_minutes_max: float = Field(
        60.0,
        gt=0,
        le=10080,
        description="A study of which stated instances are missing is closed as partial and analysed so long "
        "after its last new instance.",
    )
    start_early: bool = Field(
        True,
        description="Whether to begin with a series that is provably whole, by a procedure step, an "
        "availability notice, a UPS or its archive's count, while the rest of its study still arrives.",
    )
    connections_max: int = Field(512, ge=4, le=20000, description="Open connections in all.")
    connections_per_address_max: int = Field(
        32, ge=1, le=20000, description="Open connections of one address."
    )
    associations_per_ae_max: int = Field(
        32, ge=2, le=20000, description="Associations of one AE title, from all its addresses together."
    )
    connections_per_second: float = Field(
        100.0,
        gt=0,
        le=10000,
        description="New connections of one address per second, after a burst of 2 s; more of them wait.",
    )
    unusual_associations_max: int = Field(
        8,
        ge=0,
        le=64,
        description="Associations served by pynetdicom threads (role selection, user identity, notices).",
    )
    request_seconds: float = Field(10.0, gt=0, le=300, description="Time for a peer to complete its request.")
    idle_seconds: float = Field(60.0, gt=0, le=3600, description="Time an association may be silent.")
    stall_seconds: float = Field(30.0, gt=0, le=600, description="Time a peer may stop inside a message.")
    pdu_bytes: int = Field(131072, ge=4096, le=1048576, description="Longest PDU we announce and accept.")
    instance_gib_max: float = Field(4.0, gt=0, le=64, description="Largest instance accepted.")
    segment_mib: int = Field(64, ge=1, le=1024, description="Size of a spool segment.")
    reserve_gib: float = Field(
        2.0, ge=0, description="Free disk below which we answer 0xA700 (out of resources)."
    )

    @model_validator(mode="after")
    def _learnt_bounds(self) -> "ListenerSettings":
        if self.quiet_learnt_seconds_min > self.quiet_learnt_seconds_max:
            raise ValueError("quiet_learnt_seconds_min is above quiet_learnt_seconds_max. Exchange them.")
        return self

    @model_validator(mode="after")
    def _plain_beyond_loopback(self) -> "ListenerSettings":
        if not self.plain and not is_loopback(self.host):
            raise ValueError(
                f"listener.host {self.host} is reachable from other machines, and this port speaks DICOM "
                "without TLS. Set listener.plain to true if images may cross the network in the clear, or "
                "leave listener.host at 127.0.0.1 and set tls.port."
            )
        return self


class TlsSettings(Branch):
    """DICOM over TLS 1.2 and 1.3, in and out, with a certificate on both sides (PS3.15 B.12)."""

    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port to listen on; 2762 is registered for DICOM over TLS; empty: nobody calls by TLS.",
    )
    certificate: Path | None = Field(
        None, description="PEM file with this node's certificate and its chain; read again when it changes."
    )
    private_key: Path | None = Field(None, description="PEM file with the key of the certificate.")
    trusted: Path | None = Field(
        None,
        description="PEM file of those whose certificates are trusted: authorities, or the certificates of "
        "the peers themselves.",
    )

    @model_validator(mode="after")
    def _complete(self) -> "TlsSettings":
        files = (self.certificate, self.private_key, self.trusted)
        if (self.port is not None or any(files)) and not all(files):
            raise ValueError(
                "tls.certificate, tls.private_key and tls.trusted belong together, and tls.port needs them. "
                "Set all of them."
            )
        return self


class StowSettings(Branch):
    """How studies come in by HTTP (STOW-RS, PS3.18 10.5); only peers with a `token_hash` may send."""

    host: str = Field("127.0.0.1", description="Address to listen on; anything but loopback needs TLS.")
    port: int | None = Field(None, ge=0, le=65535, description="Port to listen on; empty: no STOW-RS.")
    certificate: Path | None = Field(
        None, description="PEM file with the server's certificate and its chain; empty: plain HTTP."
    )
    private_key: Path | None = Field(None, description="PEM file with the key of the certificate.")
    connections_max: int = Field(64, ge=2, le=1024, description="Open connections in all.")
    requests_max: int = Field(
        16, ge=1, le=256, description="Requests served at a time; one peer may take half of them."
    )
    request_gib_max: float = Field(
        16.0, gt=0, le=1024, description="Largest request; one instance has listener.instance_gib_max."
    )

    @model_validator(mode="after")
    def _no_token_in_the_clear(self) -> "StowSettings":
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("stow.certificate and stow.private_key belong together. Set both or none.")
        if self.port is not None and self.certificate is None and not is_loopback(self.host):
            raise ValueError(
                f"stow.host {self.host} is reachable from other machines, and tokens and images would cross "
                "the network in the clear. Set stow.certificate and stow.private_key, or set stow.host to "
                "127.0.0.1 and put a TLS proxy in front."
            )
        return self


class WorkerSettings(Branch):
    """How analyses run."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes CUDA where there is a GPU."
    )
    threads: int | None = Field(None, ge=1, le=256, description="CPU threads of a model; empty: all cores.")
    memory_gib: float = Field(
        8.0, gt=0.5, le=1024, description="Memory limit of the process that runs a job."
    )
    job_seconds_max: float = Field(900.0, gt=0, le=86400, description="Time limit of one job.")
    lease_seconds: float = Field(
        60.0, ge=2, le=3600, description="A job without a heartbeat for so long is free again."
    )
    attempts_max: int = Field(3, ge=1, le=20, description="Tries before a job is failed.")
    poll_seconds: float = Field(2.0, gt=0, le=60, description="How often to look when no hint arrives.")


class PackageSettings(Branch):
    """Which models run."""

    folders: tuple[Path, ...] = Field((), description="Folders with model packages besides the shipped ones.")
    enabled: tuple[str, ...] | None = Field(
        None, description="Ids of the packages that run; empty: all that verify."
    )
    accepted: dict[str, str] = Field(
        default_factory=dict,
        description="Digest accepted for a package of your own, by id; the shipped ones need no entry.",
    )
    pixels: Literal["off", "tell", "stand_in"] = Field(
        "tell",
        description="What a series sorter may do where one is installed: nothing; say where pixels and "
        "attributes disagree; or stand in for attributes that are absent, too.",
    )


class ResultSettings(Branch):
    """What is written and sent."""

    secondary_capture: bool = Field(
        True, description="Send a summary picture; many PACS show neither SEG nor SR."
    )
    empty_segmentation: bool = Field(
        False,
        description="Send a SEG also where no lesion was found, with an empty segment: for archives and "
        "scripts that wait for one object of each kind.",
    )
    sr_class: Literal["comprehensive-3d", "comprehensive", "enhanced"] = Field(
        "comprehensive-3d",
        description="SOP class of structured reports; some archives take only the older two.",
    )
    not_analysed_report: bool = Field(False, description="Send a small SR for a study that was not analysed.")
    send_to: tuple[str, ...] = Field(
        (), description="Names of peers that get every result, besides its sender."
    )


class DeliverySettings(Branch):
    """How results leave."""

    tries_max: int = Field(12, ge=1, le=1000, description="Tries before a delivery is parked for a person.")
    first_wait_seconds: float = Field(
        30.0, gt=0, le=3600, description="Wait after the first failure; it doubles."
    )
    wait_seconds_max: float = Field(600.0, gt=0, le=86400, description="Longest wait between tries.")
    answer_seconds: float = Field(60.0, gt=0, le=3600, description="Time for a peer to answer a C-STORE.")


class RetentionSettings(Branch):
    """How long images and results stay on this node; the archive is the place for keeps."""

    days: float = Field(14.0, gt=0, le=3650, description="Finished studies older than this are dropped.")
    disk_percent_max: float = Field(
        85.0, gt=1, le=99, description="Above this the oldest finished studies are dropped, older first."
    )
    dry_run: bool = Field(False, description="Only write what would be dropped to the log.")


class LoginSettings(Branch):
    """A login of the page."""

    user: str = Field(min_length=1, max_length=64, description="User name.")
    password_hash: str = Field(min_length=20, description="Made by `preread config password`; scrypt.")


class WebSettings(Branch):
    """The page."""

    host: str = Field("127.0.0.1", description="Address of the page; anything but loopback needs a login.")
    port: int = Field(8042, ge=0, le=65535, description="Port of the page.")
    logins: tuple[LoginSettings, ...] = Field((), description="Who may see the page.")
    session_minutes: float = Field(60.0, gt=0, le=1440, description="A login ends after so long without use.")
    upload: bool = Field(
        False,
        description="Whether DICOM files and zips can be dropped on the page; their results go to "
        "`results.send_to` and are shown on the page.",
    )
    upload_gib_max: float = Field(
        8.0, gt=0, le=1024, description="Largest file or zip uploaded, also when unpacked."
    )

    @model_validator(mode="after")
    def _login_beyond_loopback(self) -> "WebSettings":
        if not self.logins and not is_loopback(self.host):
            raise ValueError(
                f"web.host {self.host} is reachable from other machines and no login is configured; "
                "the page shows patients. Add web.logins or set web.host to 127.0.0.1."
            )
        return self


class LogSettings(Branch):
    """What is logged; never a patient."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
    form: Literal["text", "json"] = Field("text", description="json for a log collector.")


class Settings(Branch):
    """All settings of one node."""

    state_folder: Path = Field(Path("var/preread"), description="Where images, results and rows live.")
    node: NodeSettings = NodeSettings()
    peers: tuple[PeerSettings, ...] = Field(
        (), description="Who may call and who gets results; default deny."
    )
    database: DatabaseSettings = DatabaseSettings()
    listener: ListenerSettings = ListenerSettings()
    tls: TlsSettings = TlsSettings()
    stow: StowSettings = StowSettings()
    worker: WorkerSettings = WorkerSettings()
    packages: PackageSettings = PackageSettings()
    results: ResultSettings = ResultSettings()
    delivery: DeliverySettings = DeliverySettings()
    retention: RetentionSettings = RetentionSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _peers_agree(self) -> "Settings":
        names = [peer.name for peer in self.peers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"peers: the name {name!r} is used twice. Rename one.")
        hashes = [peer.token_hash for peer in self.peers if peer.token_hash is not None]
        if len(set(hashes)) < len(hashes):
            raise ValueError("peers: two have the same token_hash. Make one for each.")
        if self.web.upload and any(peer.ae_title == UPLOAD_AE for peer in self.peers):
            raise ValueError(f"peers: {UPLOAD_AE} is what the page sends as. Rename the peer.")
        for peer in self.peers:
            if peer.tls and self.tls.certificate is None:
                raise ValueError(f"peer {peer.name!r}: tls needs tls.certificate and what belongs to it.")
            if peer.certificates and not peer.tls and self.tls.port is None:
                raise ValueError(f"peer {peer.name!r}: certificates are shown by TLS alone. Set tls.port.")
        targets = [target for peer in self.peers for target in peer.send_to or ()]
        for target in (*targets, *self.results.send_to):
            chosen = next((p for p in self.peers if p.name == target), None)
            if chosen is None:
                raise ValueError(
                    f"send_to: no peer is called {target!r}. Known: {', '.join(names) or 'none'}."
                )
            if chosen.host is None or chosen.port is None:
                raise ValueError(f"send_to: peer {target!r} has no host and port. Add them.")
        return self

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database in use."""
        return self.database.url or f"sqlite:///{self.state_folder / 'preread.db'}"

    @property
    def spool_folder(self) -> Path:
        """Folder of all byte stores: instances and results."""
        return self.state_folder / "spool"

    def destinations_of(self, source_ae: str) -> tuple[PeerSettings, ...]:
        """Peers that get the results of a study sent by `source_ae`, each once, in the order of settings."""
        names = set(self.results.send_to)
        for peer in self.peers:
            if peer.ae_title == source_ae:
                if peer.send_to is not None:
                    names.update(peer.send_to)
                elif peer.host is not None and peer.port is not None:
                    names.add(peer.name)
        return tuple(peer for peer in self.peers if peer.name in names)
