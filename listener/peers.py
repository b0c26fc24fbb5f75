"""Ask an archive how many instances a study has: two C-FINDs on one association, bounded in time and bytes.

Study Root; at STUDY level NumberOfStudyRelatedInstances, at SERIES level NumberOfSeriesRelatedInstances. An
archive that does not count by series (both are optional keys, PS3.4 C.3.4) is no witness.
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import, from a table
    StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT_FIND,
)

from config.errors import PrereadError
from config.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from config.settings import PeerSettings, TlsSettings
from config.tls import CertificateFault, RequestorContext, requestor_context

CONNECT_SECONDS = 5.0
ASK_SECONDS_MAX = 20.0  # for everything, from the connection to the last answer
ANSWERS_MAX = 2000  # series of one study
PDU_BYTES_MAX = 1 << 20
RECEIVED_BYTES_MAX = 16 << 20
_PENDING = (0xFF00, 0xFF01)


class NotCounted(PrereadError):
    """The archive gave no count; says why."""


@dataclass(frozen=True, slots=True)
class CountedSeries:
    """One series as the archive has it."""

    series_uid: str
    modality: str
    instances: int


def count_instances(
    peer: PeerSettings, study_uid: str, *, calling_ae: str, tls: TlsSettings | None = None
) -> tuple[CountedSeries, ...]:
    """The series of a study and how many instances each has at `peer`; none: it does not know the study.

    Parameters
    ----------
    tls : what we show, and trust, where the peer is called by TLS

    Raises
    ------
    NotCounted
        No connection, no answer in time, an answer that does not count, or counts that contradict each other.
    """
    ends_at = time.monotonic() + ASK_SECONDS_MAX
    association = _associated(peer, calling_ae, ends_at, tls)
    try:
        study = _find(association, peer, _query("STUDY", study_uid, "NumberOfStudyRelatedInstances"))
        series = _find(
            association,
            peer,
            _query("SERIES", study_uid, "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"),
        )
    finally:
        if association.is_established:
            association.release()
    counted = tuple(_counted(answer, peer) for answer in series)
    total = sum(one.instances for one in counted)
    stated = [_number(answer, "NumberOfStudyRelatedInstances") for answer in study]
    if any(number is not None and number != total for number in stated):
        raise _not_counted(peer, f"counts {stated[0]} instances in the study and {total} in its series")
    return counted


def _associated(peer: PeerSettings, calling_ae: str, ends_at: float, tls: TlsSettings | None) -> Association:
    ae = AE(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.connection_timeout = CONNECT_SECONDS
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ASK_SECONDS_MAX / 2
    ae.add_requested_context(STUDY_ROOT_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    assert peer.host is not None
    assert peer.port is not None

    def bound(event: evt.Event) -> None:
        transport: Any = event.assoc.dul.socket
        transport.recv = _BoundedReading(transport.socket, ends_at)

    handlers: list[Any] = [(evt.EVT_CONN_OPEN, bound)]
    context = _context_for(peer, tls)
    association = ae.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        evt_handlers=handlers,
        tls_args=(context, peer.host) if context is not None else None,
    )
    if context is not None and context.fault is not None:
        raise _not_counted(peer, f"fails at TLS: {context.fault}")
    if not association.is_established:
        if association.is_rejected:
            raise _not_counted(peer, f"rejected our association as {calling_ae}")
        refused = association.rejected_contexts
        raise _not_counted(peer, "does not take C-FIND (Study Root)" if refused else "does not answer")
    return association


def _context_for(peer: PeerSettings, tls: TlsSettings | None) -> RequestorContext | None:
    if not peer.tls:
        return None
    try:
        return requestor_context(tls or TlsSettings(), peer)
    except CertificateFault as error:
        raise _not_counted(peer, f"cannot be called by TLS: {error}") from error


class _BoundedReading:
    """In place of the transport's `recv`: OSError, which ends the association, when a bound is broken."""

    def __init__(self, connection: socket.socket, ends_at: float) -> None:
        self._connection, self._ends_at = connection, ends_at
        self._left = RECEIVED_BYTES_MAX

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


def _query(level: str, study_uid: str, *wanted: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword in wanted:
        setattr(query, keyword, "")
    query.StudyInstanceUID = study_uid
    return query


def _find(association: Association, peer: PeerSettings, query: Dataset) -> Sequence[Dataset]:
    answers: list[Dataset] = []
    if not association.is_established:
        raise _not_counted(peer, "ended the association")
    for status, answer in association.send_c_find(query, STUDY_ROOT_FIND):
        code = status.get("Status")
        if code in _PENDING:
            # An archive that ignores the key answers for every study it has.
            asked = query.StudyInstanceUID
            if answer is None or str(answer.get("StudyInstanceUID") or asked) != asked:
                association.abort()
                raise _not_counted(peer, "answers for another study")
            answers.append(answer)
            if len(answers) > ANSWERS_MAX:
                association.abort()
                raise _not_counted(peer, f"answers more than {ANSWERS_MAX} times")
        elif code != 0x0000:
            words = "gave no answer in time" if code is None else f"answered 0x{code:04X}"
            raise _not_counted(peer, words)
    return answers


def _counted(answer: Dataset, peer: PeerSettings) -> CountedSeries:
    instances = _number(answer, "NumberOfSeriesRelatedInstances")
    if instances is None:
        raise _not_counted(peer, "does not count instances by series")
    return CountedSeries(
        str(answer.get("SeriesInstanceUID", "")), str(answer.get("Modality") or ""), instances
    )


def _number(answer: Dataset, keyword: str) -> int | None:
    try:
        return max(0, int(answer.get(keyword)))
    except (TypeError, ValueError):
        return None


def _not_counted(peer: PeerSettings, what: str) -> NotCounted:
    return NotCounted(
        what,
        where=f"{peer.ae_title} at {peer.host}:{peer.port}",
        remedy=f"Check the peer, or set ask_counts of {peer.name} to false.",
    )
