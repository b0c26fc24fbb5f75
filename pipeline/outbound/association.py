"""One association to a peer as service class user: C-STORE of bytes as they are stored, and C-ECHO.

Source: PS3.4 annex B (storage), PS3.7 9.1.1 and 9.1.5 (C-STORE, C-ECHO), PS3.8 (association)
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.status import code_to_category

from config.errors import PrereadError
from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from config.settings import PeerSettings, TlsSettings
from config.tls import CertificateFault, RequestorContext, requestor_context
from pipeline.outbound.reactor_gate import keep_answers

CONNECT_SECONDS: Final = 10.0
CONTEXTS_MAX: Final = 128  # PS3.8 9.3.2.2: odd identifiers up to 255
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
_REASONS: Final = {  # PS3.8 table 9-21, result source 1
    (1, 1): "no reason given",
    (1, 2): "it does not support the application context",
    (1, 3): "it does not know our AE title as caller",
    (1, 7): "it does not know itself by the AE title we call",
    (2, 1): "no reason given by its protocol machine",
    (2, 2): "it does not support our protocol version",
    (3, 1): "it is congested for the moment",
    (3, 2): "its limit of associations is reached",
}


@dataclass(frozen=True, eq=False)
class Outgoing:
    """One object to send.

    Parameters
    ----------
    transfer_syntax : of `dataset`
    dataset : encoded, without preamble and file meta information
    """

    sop_class: str
    sop_uid: str
    transfer_syntax: str
    dataset: bytes


@dataclass(frozen=True)
class Answer:
    """How one C-STORE ended.

    Parameters
    ----------
    status : delivered; retry: may work later; park: cannot work until a person changes something
    detail : the peer's answer or the error in words, empty for a plain success
    """

    status: Literal["delivered", "retry", "park"]
    detail: str


class PeerUnreachable(PrereadError):
    """No association with the peer; says why and what to do."""


@contextmanager
def associated(
    peer: PeerSettings,
    kinds: Sequence[tuple[str, str]],
    *,
    calling_ae: str,
    answer_seconds: float,
    tls: TlsSettings | None = None,
) -> Iterator[Association]:
    """An association that proposes (SOP class, transfer syntax) pairs, one context each; released at the end.

    An association in which the peer refused every context is handed out too, aborted: each object says so.

    Parameters
    ----------
    tls : what we show, and trust, where the peer is called by TLS

    Raises
    ------
    PeerUnreachable
        No address, no connection, or the peer rejected the association.
    """
    if peer.host is None or peer.port is None:
        raise PeerUnreachable(
            "has no address", where=peer.name, remedy=f"Set host and port of the peer {peer.name}."
        )
    context = _context_for(peer, tls)
    ae = AE(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.connection_timeout = CONNECT_SECONDS
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = answer_seconds
    contexts = [build_context(*kind) for kind in dict.fromkeys(kinds)][:CONTEXTS_MAX]
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, _send_at_once)]
    association = ae.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.ae_title,
        evt_handlers=handlers,
        tls_args=(context, peer.host) if context is not None else None,
    )
    keep_answers(association)
    try:
        if not association.is_established and not association.rejected_contexts:
            raise _unreachable(association, peer, context)
        yield association
    finally:
        if association.is_established:
            association.release()


def store(association: Association, item: Outgoing) -> Answer:
    """Send one object and wait for the answer."""
    context_id = next(
        (
            context.context_id
            for context in association.accepted_contexts
            if (context.abstract_syntax, context.transfer_syntax[0]) == (item.sop_class, item.transfer_syntax)
        ),
        None,
    )
    name = UID(item.sop_class).name
    if context_id is None:
        syntax = UID(item.transfer_syntax).name
        return Answer("park", f"the peer does not accept {name} in {syntax}; configure it there")
    if not association.is_established:
        return Answer("retry", "the peer ended the association")
    status = _send(association, context_id, item)
    if status is None:
        return Answer("retry", "the peer did not answer in time or ended the association")
    category = code_to_category(status)
    if category == "Success":
        return Answer("delivered", "")
    if category == "Warning":
        return Answer("delivered", f"stored with warning 0x{status:04X}")
    if status == _SOP_CLASS_NOT_SUPPORTED:
        return Answer("park", f"the peer does not support {name} (0x0122); configure it there")
    return Answer("retry", f"the peer answered {_words(status)} (0x{status:04X})")


def verify(association: Association) -> bool:
    """C-ECHO; whether the peer answered with success."""
    answer = association.send_c_echo()
    return getattr(answer, "Status", None) == 0x0000


def verification_kinds() -> list[tuple[str, str]]:
    """What to propose for C-ECHO."""
    return [(str(Verification), "1.2.840.10008.1.2")]


def _send_at_once(event: evt.Event) -> None:
    """Switch off Nagle's algorithm: with delayed acknowledgements it costs 40 ms for each object."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _send(association: Association, context_id: int, item: Outgoing) -> int | None:
    """One C-STORE of the bytes as they are; the status, None without an answer.

    pynetdicom's own `send_c_store` decodes and encodes anew; what is sent here must be what was stored, so
    that a resend is the same object.
    """
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2  # low: results must not push aside a scanner's images
    request.AffectedSOPClassUID = item.sop_class
    request.AffectedSOPInstanceUID = item.sop_uid
    request.DataSet = io.BytesIO(item.dataset)
    # As pynetdicom's send_* do: its reactor must not take the answer from under us.
    association._reactor_checkpoint.clear()
    try:
        while not association._is_paused:
            if not association.is_established:
                return None
            time.sleep(0.0001)
        association.dimse.send_msg(request, context_id)
        _, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    status = getattr(answer, "Status", None)
    if status is None:
        association.abort()
        return None
    return int(status)


def _words(status: int) -> str:
    if 0xA700 <= status <= 0xA7FF:
        return "out of resources"
    if 0xA900 <= status <= 0xA9FF:
        return "data set does not match SOP class"
    if 0xC000 <= status <= 0xCFFF:
        return "cannot understand"
    return {0x0111: "duplicate SOP instance", 0x0124: "not authorised"}.get(status, "failure")


def _context_for(peer: PeerSettings, tls: TlsSettings | None) -> RequestorContext | None:
    if not peer.tls:
        return None
    try:
        return requestor_context(tls or TlsSettings(), peer)
    except CertificateFault as error:
        raise PeerUnreachable(
            f"cannot be called by TLS: {error.where}: {error.what}", where=peer.name, remedy=error.remedy
        ) from error


def _unreachable(
    association: Association, peer: PeerSettings, context: RequestorContext | None
) -> PeerUnreachable:
    place = f"{peer.ae_title} at {peer.host}:{peer.port}"
    if context is not None and context.fault is not None:
        return PeerUnreachable(
            f"TLS failed: {context.fault}",
            where=place,
            remedy=f"Correct tls.trusted or the certificates of peer {peer.name} here, or what the peer "
            "shows and trusts.",
        )
    if association.is_rejected:
        primitive = association.acceptor.primitive
        source = getattr(primitive, "result_source", None)
        reason = getattr(primitive, "diagnostic", None)
        words = _REASONS.get((source or 0, reason or 0), f"source {source}, reason {reason}")
        return PeerUnreachable(
            f"rejected the association: {words}",
            where=place,
            remedy=f"Allow our AE title {association.requestor.ae_title} there, or correct its title here.",
        )
    if association.acceptor.primitive is None and not association.is_aborted:
        what = "does not answer"
    else:
        what = "cannot be reached or ended the association"
    return PeerUnreachable(what, where=place, remedy="Check host, port, firewall and that the peer runs.")
