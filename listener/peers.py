"""Ask an archive how many instances a study has: two C-FINDs on one association, bounded in time and bytes.

Study Root; at STUDY level NumberOfStudyRelatedInstances, at SERIES level NumberOfSeriesRelatedInstances. An
archive that does not count by series (both are optional keys, PS3.4 C.3.4) is no witness.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import, from a table
    StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT_FIND,
)

from config.errors import PrereadError
from config.settings import PeerSettings, TlsSettings
from listener.calling import NotAssociated, associated, plain_context

ASK_SECONDS_MAX = 20.0  # for everything, from the connection to the last answer
ANSWERS_MAX = 2000  # series of one study
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
    try:
        association = associated(
            peer,
            [plain_context(STUDY_ROOT_FIND)],
            called_for="C-FIND (Study Root)",
            calling_ae=calling_ae,
            seconds=ASK_SECONDS_MAX,
            tls=tls,
        )
    except NotAssociated as error:
        raise _not_counted(peer, error.what) from error
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
