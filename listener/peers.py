"""Ask an archive how many instances a study has: two C-FINDs on one association, bounded in time and bytes.

Study Root; at STUDY level NumberOfStudyRelatedInstances, at SERIES level NumberOfSeriesRelatedInstances. An
archive that does not count by series (both are optional keys, PS3.4 C.3.4) is no witness.
"""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
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
    with ask_association(
        peer,
        calling_ae=calling_ae,
        ends_at=time.monotonic() + ASK_SECONDS_MAX,
        answer_seconds=ASK_SECONDS_MAX / 2,
        contexts=[build_context(STUDY_ROOT_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])],
        bytes_max=RECEIVED_BYTES_MAX,
        trouble=partial(_not_counted, peer),
        refused="does not take C-FIND (Study Root)",
        tls=tls,
    ) as association:
        study = _find(association, peer, _query("STUDY", study_uid, "NumberOfStudyRelatedInstances"))
        series = _find(
            association,
            peer,
            _query("SERIES", study_uid, "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"),
        )
    counted = tuple(_counted(answer, peer) for answer in series)
    total = sum(one.instances for one in counted)
    stated = [_number(answer, "NumberOfStudyRelatedInstances") for answer in study]
    if any(number is not None and number != total for number in stated):
        raise _not_counted(peer, f"counts {stated[0]} instances in the study and {total} in its series")
    return counted


@contextmanager
def ask_association(
    peer: PeerSettings,
    *,
    calling_ae: str,
    ends_at: float,
    answer_seconds: float,
    contexts: Sequence[PresentationContext],
    bytes_max: int,
    trouble: Callable[[str], PrereadError],
    refused: str = "does not take the service",
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[Any] = (),
    tls: TlsSettings | None = None,
) -> Iterator[Association]:
    """An association to ask a peer something, bounded in time and bytes, and released afterwards.

    Parameters
    ----------
    ends_at : on the monotonic clock, for everything
    trouble : makes the error that is raised when there is no association, from what happened
    refused : what happened when no context was accepted
    tls : our certificate, for a peer that is called by TLS
    """
    ae = AE(ae_title=calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION
    ae.connection_timeout = CONNECT_SECONDS
    ae.acse_timeout = min(answer_seconds, ASK_SECONDS_MAX / 2)
    ae.dimse_timeout = ae.network_timeout = answer_seconds
    assert peer.host is not None
    assert peer.port is not None

    def bound(event: evt.Event) -> None:
        transport: Any = event.assoc.dul.socket
        transport.recv = _BoundedReading(transport.socket, ends_at, bytes_max)

    context = _context_for(peer, tls, trouble)
    association = ae.associate(
        peer.host,
        peer.port,
        contexts=list(contexts),
        ae_title=peer.ae_title,
        ext_neg=list(roles),
        evt_handlers=[(evt.EVT_CONN_OPEN, bound), *handlers],
        tls_args=(context, peer.host) if context is not None else None,
    )
    if context is not None and context.fault is not None:
        raise trouble(f"fails at TLS: {context.fault}")
    if not association.is_established:
        if association.is_rejected:
            raise trouble(f"rejected our association as {calling_ae}")
        raise trouble(refused if association.rejected_contexts else "does not answer")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _context_for(
    peer: PeerSettings, tls: TlsSettings | None, trouble: Callable[[str], PrereadError]
) -> RequestorContext | None:
    if not peer.tls:
        return None
    try:
        return requestor_context(tls or TlsSettings(), peer)
    except CertificateFault as error:
        raise trouble(f"cannot be called by TLS: {error}") from error


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
