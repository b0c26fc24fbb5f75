"""An association that we ask a peer for, bounded in time and bytes whatever the peer does."""

import socket
import time
from collections.abc import Sequence
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from config.errors import PrereadError
from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from config.settings import PeerSettings, TlsSettings
from config.tls import CertificateFault, RequestorContext, requestor_context

CONNECT_SECONDS, ACCEPTED_SECONDS = 5.0, 10.0
PDU_BYTES_MAX = 1 << 20
RECEIVED_BYTES_MAX = 16 << 20


def plain_context(sop_class: str) -> PresentationContext:
    """A presentation context of a service that sends no pixels."""
    return build_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


class NotAssociated(PrereadError):
    """There is no association with the peer; `what` says why."""


def associated(
    peer: PeerSettings,
    contexts: Sequence[PresentationContext],
    *,
    called_for: str,
    calling_ae: str,
    seconds: float,
    bytes_max: int = RECEIVED_BYTES_MAX,
    tls: TlsSettings | None = None,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[Any] = (),
) -> Association:
    """An association for some presentation contexts; to be released or aborted by the caller.

    Parameters
    ----------
    called_for : the service in words, for the error
    seconds : for everything on it, from the connection to the last answer; half of it for one answer
    bytes_max : of what the peer may send on it
    tls : what we show, and trust, where the peer is called by TLS
    handlers : of pynetdicom's events

    Raises
    ------
    NotAssociated
        No connection, or the peer rejected the association or the SOP class.
    """
    ends_at = time.monotonic() + seconds
    ae = AE(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.connection_timeout = CONNECT_SECONDS
    ae.acse_timeout = min(seconds / 2, ACCEPTED_SECONDS)
    ae.dimse_timeout = ae.network_timeout = seconds / 2
    assert peer.host is not None
    assert peer.port is not None

    def bound(event: evt.Event) -> None:
        transport: Any = event.assoc.dul.socket
        transport.recv = _BoundedReading(transport.socket, ends_at, bytes_max)

    context = _context_for(peer, tls)
    association = ae.associate(
        peer.host,
        peer.port,
        contexts=list(contexts),
        ae_title=peer.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, bound), *handlers],
        ext_neg=list(roles),
        tls_args=(context, peer.host) if context is not None else None,
    )
    if context is not None and context.fault is not None:
        raise _not_associated(peer, f"fails at TLS: {context.fault}")
    if not association.is_established:
        if association.is_rejected:
            what = f"rejected our association as {calling_ae}"
        else:
            what = f"does not take {called_for}" if association.rejected_contexts else "does not answer"
        raise _not_associated(peer, what)
    return association


def _context_for(peer: PeerSettings, tls: TlsSettings | None) -> RequestorContext | None:
    if not peer.tls:
        return None
    try:
        return requestor_context(tls or TlsSettings(), peer)
    except CertificateFault as error:
        raise _not_associated(peer, f"cannot be called by TLS: {error}") from error


def _not_associated(peer: PeerSettings, what: str) -> NotAssociated:
    return NotAssociated(what, where=f"{peer.ae_title} at {peer.host}:{peer.port}", remedy="Check the peer.")


class _BoundedReading:
    """In place of the transport's `recv`: OSError, which ends the association, when a bound is broken."""

    def __init__(self, connection: socket.socket, ends_at: float, bytes_max: int) -> None:
        self._connection, self._ends_at = connection, ends_at
        self._left = bytes_max

    def __call__(self, count: int) -> bytearray:
        self._left -= count
        if count > PDU_BYTES_MAX or self._left < 0:
            raise ConnectionAbortedError("the peer exceeds a bound of this node")
        received = bytearray()
        while len(received) < count:
            seconds = self._ends_at - time.monotonic()
            if seconds <= 0:
                raise TimeoutError("the peer took too long")
            self._connection.settimeout(seconds)
            part = self._connection.recv(count - len(received))
            if not part:
                break
            received += part
        return received
