"""What is missing is asked for at the sender that allows it; every try is told, and tries end."""

import select
from dataclasses import replace
from typing import Any

import pytest

from config.settings import PeerSettings, Settings
from db.engine import Database
from db.intake import receiving_studies
from db.timeline import events_of
from listener.completeness import Evidence, Notice, Patience, SeriesEvidence
from listener.fetching import Fetching
from listener.missing import AGAIN_SECONDS, TRIES_MAX, Missing
from listener.retrieve import NotRetrieved, Retrieved

PACS = PeerSettings(name="pacs", ae_title="PACS1", host="10.0.0.9", port=104, fetch_missing="c-move")
STUDY = "1.2.1"


class Archive:
    """In place of the network: what it was asked for, and what comes of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Missing]] = []
        self.outcome: Retrieved | Exception = Retrieved(sent=1)

    def __call__(
        self, peer: PeerSettings, study_uid: str, missing: Missing, *, settings: Settings
    ) -> Retrieved:
        self.asked.append((peer.ae_title, study_uid, missing))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return replace(self.outcome)


@pytest.fixture
def archive() -> Archive:
    return Archive()


class Recorder:
    """As the recorder uses it, on a clock of its own."""

    def __init__(self, db: Database, archive: Archive, *, peer: PeerSettings = PACS) -> None:
        self.db = db
        settings = Settings(peers=(peer,))
        self._fetching = Fetching(settings, db, Patience.of(settings), retrieve=archive)

    def look(self, now: float, *missing: str) -> float | None:
        studies = receiving_studies(self.db)
        self._fetching.take_answers(studies, now)
        (study,) = studies
        named = {f"{STUDY}.1": frozenset(missing)}
        notice = Notice("ian", "PACS1", frozenset(missing), by_series=named)
        series = tuple(SeriesEvidence(*one) for one in study.series)
        found = Evidence("PACS1", study.first_received_at, study.last_received_at, series, notices=(notice,))
        return self._fetching.ask_if_due(study, found, now)

    def answer(self) -> None:
        ready, _, _ = select.select([self._fetching.bell], [], [], 30)
        assert ready
        assert self._fetching.silence()

    def told(self) -> list[str]:
        (study,) = receiving_studies(self.db)
        return [event.text for event in events_of(self.db, study.study.id) if event.kind == "fetch"]


@pytest.fixture
def recorder(db: Database, life: Any, archive: Archive) -> Recorder:
    life.receive()
    return Recorder(db, archive)


def test_exactly_what_is_missing_is_asked_for_after_the_quiet_period_and_told(
    recorder: Recorder, archive: Archive, clock: Any
) -> None:
    quiet_at = clock.now + 30
    assert recorder.look(clock.now, "9.5") == quiet_at
    assert archive.asked == []
    assert recorder.look(quiet_at, "9.5") is None
    recorder.answer()
    assert archive.asked == [("PACS1", STUDY, Missing({f"{STUDY}.1": frozenset(("9.5",))}))]
    recorder.look(quiet_at + 1, "9.5")
    assert recorder.told() == ["PACS1 was asked for 1 missing instance (C-MOVE, try 1 of 3): 1 instance sent"]


def test_archive_that_says_it_sent_and_sends_nothing_is_asked_a_few_times_ever_more_rarely(
    recorder: Recorder, archive: Archive, clock: Any
) -> None:
    at: float | None = clock.now + 30
    waits = []
    while at is not None:
        now = at
        assert recorder.look(now, "9.5") is None
        recorder.answer()
        at = recorder.look(now, "9.5")
        waits.append(None if at is None else at - now)
    assert waits == [AGAIN_SECONDS[0], 2 * AGAIN_SECONDS[0], None]
    assert len(archive.asked) == TRIES_MAX


def test_next_try_asks_for_what_is_missing_then(recorder: Recorder, archive: Archive, clock: Any) -> None:
    recorder.look(clock.now + 30, "9.5", "9.6")
    recorder.answer()
    at = recorder.look(clock.now + 31, "9.6")
    assert at is not None
    recorder.look(at, "9.6")
    recorder.answer()
    assert [missing.instances for _, _, missing in archive.asked] == [2, 1]


def test_what_went_wrong_is_told(recorder: Recorder, archive: Archive, clock: Any) -> None:
    outcomes: list[tuple[Retrieved | Exception, str]] = [
        (NotRetrieved("does not answer"), "PACS1 does not answer"),
        (
            Retrieved(failed=1, refused="disk space is below the reserve; try again later"),
            "none sent, 1 failed, refused here: disk space is below the reserve; try again later",
        ),
        (ValueError("something of a library"), "PACS1 gave an answer that cannot be read"),
    ]
    now = clock.now + 30
    for outcome, _ in outcomes:
        archive.outcome = outcome
        assert recorder.look(now, "9.5") is None
        recorder.answer()
        recorder.look(now, "9.5")
        now += 1000
    asked = [f"PACS1 was asked for 1 missing instance (C-MOVE, try {n} of 3): " for n in (1, 2, 3)]
    assert recorder.told() == [how + words for how, (_, words) in zip(asked, outcomes, strict=True)]


def test_peer_that_does_not_allow_it_is_never_asked(
    db: Database, life: Any, archive: Archive, clock: Any
) -> None:
    life.receive()
    recorder = Recorder(db, archive, peer=PACS.model_copy(update={"fetch_missing": "no"}))
    assert recorder.look(clock.now + 1000, "9.5") is None
    assert archive.asked == []


def test_nothing_is_asked_for_when_nothing_is_missing(
    recorder: Recorder, archive: Archive, clock: Any
) -> None:
    assert recorder.look(clock.now + 1000) is None
    assert archive.asked == []
