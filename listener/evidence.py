"""Collects the evidence for `listener.completeness`: notices from the rows, counts from the sending archive.

The archive is asked by a thread of its own (`Inquiries`), one question at a time, when `due_at` says so; an
archive that does not answer is left alone for a while, told of once per revision, and silence decides.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from config.identity import is_own_uid
from config.logs import logger
from config.settings import PeerSettings, Settings
from db.engine import Database
from db.notices import held_uids, notices_of_receiving
from db.records import NoticeState, ReceivedNotice, ReceivingStudy
from db.results import own_series_uids
from db.timeline import note
from listener.completeness import Count, Evidence, Notice, Patience, SeriesEvidence
from listener.peers import CountedSeries, NotCounted, count_instances
from listener.series_counts import SeriesCount, ask_at, counted_again

ASK_SECONDS = (
    5.0,
    10.0,
)  # after the last image; between the two equal answers; both less in a short quiet period
AGAIN_SECONDS = (10.0, 300.0)  # between questions that settled nothing: first and longest
AWAY_SECONDS = 30.0  # an archive that did not answer is left alone for so long
FAILURES_TOLD_AT = 2  # one lost answer is no news
TOLD_MAX = 20  # different counts of one revision told on its timeline
QUESTIONS_MAX = 500

# Lists that are known not to name everything, or of what cannot be had yet.
LISTS_IN_PART: frozenset[NoticeState] = frozenset(("input_unlisted", "input_incomplete", "input_unavailable"))

# Series of these are no images: an archive may have some that are never sent to us.
OBJECT_MODALITIES = frozenset(
    (
        *("ANN", "AU", "DOC", "ECG", "FID", "HD", "KO", "M3D", "PLAN", "PR", "REG", "RTDOSE", "RTPLAN"),
        *("RTRECORD", "RTSTRUCT", "RWV", "SEG", "SR", "STAIN", "TEXTUREMAP"),
    )
)


@dataclass(frozen=True, slots=True)
class Asking:
    """What the archive of one study revision was asked and said.

    `equal` counts the latest answers in a row that were the same and came after `asked_of`, the last new
    instance then; `unsettled` those that led nowhere, with failures.
    """

    asked_of: float
    count: Count | None = None
    answered_at: float = 0.0
    equal: int = 0
    unsettled: int = 0
    failures: int = 0
    is_waiting: bool = False


def due_at(asking: Asking, quiet_seconds: float) -> float | None:
    """PURE: when to ask next; None: an answer is under way, or nothing more is to be learnt."""
    if asking.is_waiting or (asking.count is not None and asking.count.is_stable and not asking.unsettled):
        return None
    if asking.unsettled:
        wait = min(AGAIN_SECONDS[1], AGAIN_SECONDS[0] * 2.0 ** min(asking.unsettled - 1, 10))
        return asking.answered_at + wait
    if asking.equal:
        return asking.answered_at + min(ASK_SECONDS[1], quiet_seconds / 3)
    return asking.asked_of + min(ASK_SECONDS[0], quiet_seconds / 3)


def answered(
    asking: Asking, source_ae: str, by_series: Mapping[str, int], held: Mapping[str, int], now: float
) -> Asking:
    """PURE: after an answer; one that fits what is held is asked for twice, others now and then."""
    is_same = asking.equal > 0 and asking.count is not None and asking.count.by_series == by_series
    equal = asking.equal + 1 if is_same else 1
    fits = dict(by_series) == dict(held)
    return replace(
        asking,
        count=Count(source_ae, by_series, is_stable=equal >= 2),
        answered_at=now,
        equal=equal,
        unsettled=0 if fits else asking.unsettled + 1,
        failures=0,
        is_waiting=False,
    )


def unanswered(asking: Asking, now: float) -> Asking:
    """PURE: after a failure; what was said before stands."""
    return replace(
        asking,
        answered_at=now,
        equal=0,
        unsettled=asking.unsettled + 1,
        failures=asking.failures + 1,
        is_waiting=False,
    )


def renewed(asking: Asking, last_received_at: float) -> Asking:
    """PURE: after another instance; what the archive counted remains a statement, but proves nothing now."""
    if last_received_at <= asking.asked_of:
        return asking
    count = None if asking.count is None else replace(asking.count, is_stable=False)
    return Asking(asked_of=last_received_at, count=count, is_waiting=asking.is_waiting)


def expected_of(
    counted: Iterable[CountedSeries], held: Mapping[str, int], own_series: frozenset[str], root: str | None
) -> dict[str, int]:
    """PURE: what an archive's answer lets us expect, by series: without our own results and mere objects."""
    return {
        one.series_uid: one.instances
        for one in counted
        if one.instances
        and one.series_uid not in own_series
        and not is_own_uid(one.series_uid, root=root)
        and (one.series_uid in held or one.modality not in OBJECT_MODALITIES)
    }


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one question; `failure` says why there is no count."""

    study_uid: str
    asked_of: float
    counted: tuple[CountedSeries, ...]
    failure: str | None


class Inquiries:
    """A thread that asks archives; `bell` is a descriptor that rings when an answer is there."""

    def __init__(
        self,
        calling_ae: str,
        ask: Callable[..., tuple[CountedSeries, ...]] = count_instances,
    ) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._calling_ae, self._ask = calling_ae, ask
        self._lock = threading.Condition()
        self._questions: dict[str, tuple[PeerSettings, float]] = {}
        self._answers: list[Answer] = []
        self._away: dict[str, tuple[float, str]] = {}  # until when, and why
        # A daemon: a hanging archive must not keep the process from ending.
        threading.Thread(target=self._run, name="inquiries", daemon=True).start()

    def ask(self, study_uid: str, peer: PeerSettings, asked_of: float) -> bool:
        """Queue a question; False when there are too many."""
        with self._lock:
            if len(self._questions) >= QUESTIONS_MAX:
                return False
            self._questions[study_uid] = (peer, asked_of)
            self._lock.notify()
        return True

    def silence(self) -> bool:
        """Silence the bell; whether it rang."""
        try:
            return os.eventfd_read(self.bell) > 0
        except BlockingIOError:
            return False

    def answers(self) -> list[Answer]:
        """What was answered since."""
        with self._lock:
            found, self._answers = self._answers, []
        return found

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._questions:
                    self._lock.wait()
                study_uid = next(iter(self._questions))
                peer, asked_of = self._questions.pop(study_uid)
            answer = self._answer(study_uid, peer, asked_of)
            with self._lock:
                self._answers.append(answer)
                os.eventfd_write(self.bell, 1)

    def _answer(self, study_uid: str, peer: PeerSettings, asked_of: float) -> Answer:
        until, failure = self._away.get(peer.name, (0.0, ""))
        if time.monotonic() < until:
            return Answer(study_uid, asked_of, (), failure)
        try:
            return Answer(study_uid, asked_of, self._ask(peer, study_uid, calling_ae=self._calling_ae), None)
        except NotCounted as error:
            failure = error.what
        except Exception as error:  # noqa: BLE001 whatever a library makes of an answer; the thread goes on
            logger("recorder").warning("an archive's count cannot be read", kind=type(error).__name__)
            failure = "gave an answer that cannot be read"
        self._away[peer.name] = (time.monotonic() + AWAY_SECONDS, failure)
        return Answer(study_uid, asked_of, (), failure)


class EvidenceCollector:
    """What is known of the studies that receive, for one recorder; times on the clock of its callers."""

    def __init__(self, settings: Settings, db: Database, patience: Patience) -> None:
        self._db, self._patience, self._root = db, patience, settings.node.uid_root
        self._asked_peers = {peer.ae_title: peer for peer in settings.peers if peer.ask_counts}
        asking = partial(count_instances, tls=settings.tls)
        self.inquiries = Inquiries(settings.node.ae_title, asking) if self._asked_peers else None
        self._askings: dict[tuple[str, int], Asking] = {}
        self._held: dict[int, tuple[int, Mapping[str, frozenset[str]]]] = {}
        # Of series, where they may be whole before their study; by study revision and Series Instance UID.
        self._counts: dict[tuple[str, int], dict[str, SeriesCount]] = {}
        self._starts_early = settings.listener.start_early
        self._told: dict[tuple[str, int], int] = {}

    def of(self, studies: Iterable[ReceivingStudy], now: float) -> list[tuple[ReceivingStudy, Evidence]]:
        """The evidence of each; takes in the answers that came. Raises `DatabaseUnavailable`."""
        receiving = list(studies)
        self._forget_others(receiving)
        self._take_answers(receiving, now)
        notices = notices_of_receiving(self._db)
        return [(study, self._evidence(study, notices.get(study.study.study_uid, ()))) for study in receiving]

    def ask_if_due(self, receiving: ReceivingStudy, evidence: Evidence, now: float) -> float | None:
        """Ask the archive if it is time; when to look again for that, None: no need."""
        peer = self._asked_peers.get(receiving.source_ae)
        if peer is None or self.inquiries is None:
            return None
        key = _key(receiving)
        asking = self._asking(receiving)
        at = self._due_at(receiving, asking, self._patience.quiet_for(evidence))
        if at is None or at > now:
            self._askings[key] = asking
            return at
        is_asked = self.inquiries.ask(key[0], peer, asking.asked_of)
        self._askings[key] = replace(asking, is_waiting=is_asked)
        return None if is_asked else now + AGAIN_SECONDS[0]

    def _due_at(self, receiving: ReceivingStudy, asking: Asking, quiet_seconds: float) -> float | None:
        """When to ask for the study or for a series of it, whichever is sooner; None: not now."""
        due = due_at(asking, quiet_seconds)
        if not self._starts_early or asking.is_waiting:
            return due
        counts = self._counts_of(receiving).values()
        looks = [at for count in counts if (at := ask_at(count, quiet_seconds)) is not None]
        return min([*looks, *([] if due is None else [due])], default=None)

    def _counts_of(self, receiving: ReceivingStudy) -> dict[str, SeriesCount]:
        known = self._counts.setdefault(_key(receiving), {})
        for series in receiving.series:
            before = known.get(series.series_uid)
            if before is None or before.since < series.last_received_at:
                known[series.series_uid] = SeriesCount(series.last_received_at)
        return known

    def _asking(self, receiving: ReceivingStudy) -> Asking:
        known = self._askings.get(_key(receiving), Asking(receiving.last_received_at))
        return renewed(known, receiving.last_received_at)

    def _evidence(self, receiving: ReceivingStudy, notices: Iterable[ReceivedNotice]) -> Evidence:
        stated = tuple(
            Notice(
                notice.kind,
                notice.source_ae,
                frozenset(uid for uids in notice.named.values() for uid in uids),
                is_open=notice.state in ("in_progress", "input_incomplete"),
                by_series={series_uid: frozenset(uids) for series_uid, uids in notice.named.items()},
                proves=notice.state not in LISTS_IN_PART,
            )
            for notice in notices
            if notice.state != "canceled"  # withdrawn
        )
        held = self._held_of(receiving) if stated else {}
        counts = self._counts_of(receiving)
        return Evidence(
            source_ae=receiving.source_ae,
            first_received_at=receiving.first_received_at,
            last_received_at=receiving.last_received_at,
            series=tuple(
                SeriesEvidence(
                    series.series_uid,
                    series.modality,
                    series.instances,
                    series.last_received_at,
                    held.get(series.series_uid, frozenset()),
                    counts[series.series_uid].settled,
                )
                for series in receiving.series
            ),
            held=frozenset[str]().union(*held.values()),
            notices=stated,
            count=self._asking(receiving).count,
        )

    def _held_of(self, receiving: ReceivingStudy) -> Mapping[str, frozenset[str]]:
        """Looked up only when there is something new: a study of thousands is looked at after each batch."""
        study = receiving.study
        known = self._held.get(study.id)
        if known is None or known[0] != study.instances:
            known = self._held[study.id] = (study.instances, held_uids(self._db, study.id))
        return known[1]

    def _take_answers(self, receiving: list[ReceivingStudy], now: float) -> None:
        if self.inquiries is None:
            return
        by_uid = {study.study.study_uid: study for study in receiving}
        own_series: frozenset[str] | None = None
        for answer in self.inquiries.answers():
            study = by_uid.get(answer.study_uid)
            if study is None:
                continue
            asking = replace(self._asking(study), is_waiting=False)
            if answer.failure is not None:
                asking = unanswered(asking, now)
                self._tell_failure(study, asking, answer.failure)
                self._take_series_counts(study, answer, None, now)
            else:
                if own_series is None:
                    own_series = frozenset(own_series_uids(self._db))
                held = {series.series_uid: series.instances for series in study.series}
                expected = expected_of(answer.counted, held, own_series, self._root)
                self._take_series_counts(study, answer, expected, now)
                if answer.asked_of < study.last_received_at:  # more came since: a statement, no proof
                    asking = replace(asking, count=Count(study.source_ae, expected))
                else:
                    asking = answered(asking, study.source_ae, expected, held, now)
                self._tell_count(study, expected)
            self._askings[_key(study)] = asking

    def _take_series_counts(
        self, receiving: ReceivingStudy, answer: Answer, expected: Mapping[str, int] | None, now: float
    ) -> None:
        counts = self._counts_of(receiving)
        for uid, known in counts.items():
            number = None if expected is None else expected.get(uid, 0)
            counts[uid] = counted_again(known, number, asked_of=answer.asked_of, now=now)

    def _tell_count(self, receiving: ReceivingStudy, expected: Mapping[str, int]) -> None:
        total = sum(expected.values())
        here = sum(series.instances for series in receiving.series)
        text = f"{receiving.source_ae} counts {total} instance{'' if total == 1 else 's'}, {here} here"
        self._tell(receiving, text)

    def _tell_failure(self, receiving: ReceivingStudy, asking: Asking, failure: str) -> None:
        if asking.failures == FAILURES_TOLD_AT:
            text = f"{receiving.source_ae} was asked how many instances there are and {failure}"
            self._tell(receiving, text, once="failure")

    def _tell(self, receiving: ReceivingStudy, text: str, *, once: str | None = None) -> None:
        key = _key(receiving)
        told = self._told.get(key, 0)
        if told >= TOLD_MAX:
            return
        self._told[key] = told + 1
        note(
            self._db,
            study_id=receiving.study.id,
            kind="stated",
            text=text,
            source=receiving.source_ae,
            once=f"counted:{key[1]}:{once or text}",
        )

    def _forget_others(self, receiving: list[ReceivingStudy]) -> None:
        keys = {_key(study) for study in receiving}
        ids = {study.study.id for study in receiving}
        self._askings = {key: asking for key, asking in self._askings.items() if key in keys}
        self._counts = {key: counts for key, counts in self._counts.items() if key in keys}
        self._told = {key: count for key, count in self._told.items() if key in keys}
        self._held = {study_id: held for study_id, held in self._held.items() if study_id in ids}


def _key(receiving: ReceivingStudy) -> tuple[str, int]:
    return (receiving.study.study_uid, receiving.study.revision)
