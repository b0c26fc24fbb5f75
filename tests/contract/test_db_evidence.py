"""Evidence of receiving studies as the recorder collects it, on both databases; the archive is scripted."""

import select
from collections.abc import Callable

import pytest

from config.settings import PeerSettings, Settings
from db.intake import receiving_studies
from db.timeline import events_of
from listener.completeness import Count, Evidence, Patience
from listener.evidence import EvidenceCollector, Inquiries
from listener.peers import CountedSeries, NotCounted

SETTINGS = Settings.model_validate(
    {"peers": [{"name": "pacs", "ae_title": "PACS1", "host": "127.0.0.1", "port": 104, "ask_counts": True}]}
)


class Archive:
    """Counts what it is told to, or fails."""

    def __init__(self) -> None:
        self.counted: tuple[CountedSeries, ...] | NotCounted = ()
        self.asked = 0

    def __call__(self, peer: PeerSettings, study_uid: str, *, calling_ae: str) -> tuple[CountedSeries, ...]:
        self.asked += 1
        if isinstance(self.counted, NotCounted):
            raise self.counted
        return self.counted


class Recorder:
    """What the recorder does with a collector, by hand."""

    def __init__(self, db, archive: Callable[..., tuple[CountedSeries, ...]]) -> None:
        self.db = db
        self.collector = EvidenceCollector(SETTINGS, db, Patience.of(SETTINGS))
        self.collector.inquiries = Inquiries("PREREAD", archive)

    def look(self, now: float) -> tuple[Evidence, float | None]:
        """The evidence of the only study, and when the archive is asked next."""
        ((study, evidence),) = self.collector.of(receiving_studies(self.db), now)
        return evidence, self.collector.ask_if_due(study, evidence, now)

    def answer(self) -> None:
        assert self.collector.inquiries is not None
        poll = select.poll()
        poll.register(self.collector.inquiries.bell, select.POLLIN)
        assert poll.poll(30_000), "no answer"
        self.collector.inquiries.silence()


@pytest.fixture
def archive() -> Archive:
    return Archive()


def told(db, study_id: int) -> list[str]:
    return [event.text for event in events_of(db, study_id) if event.kind == "stated"]


def test_two_equal_answers_prove_and_an_image_after_them_takes_the_proof_away(
    db, life, clock, archive
) -> None:
    study = life.receive(images=2)
    archive.counted = (CountedSeries("1.2.1.1", "MR", 2),)
    recorder = Recorder(db, archive)
    now = clock.now
    assert recorder.look(now)[1] == now + 5
    for at in (now + 5, now + 15):
        assert recorder.look(at)[1] is None
        recorder.answer()
        evidence, _ = recorder.look(at)
    assert evidence.count == Count("PACS1", {"1.2.1.1": 2}, is_stable=True)
    assert archive.asked == 2
    clock.pass_seconds(20)
    life.receive(images=1)
    evidence, asks_at = recorder.look(clock.now)
    assert evidence.count == Count("PACS1", {"1.2.1.1": 2}, is_stable=False)
    assert asks_at == clock.now + 5
    assert told(db, study.id) == ["PACS1 counts 2 instances, 2 here"]


def test_answer_that_an_image_overtook_states_and_proves_nothing(db, life, clock, archive) -> None:
    life.receive(images=2)
    archive.counted = (CountedSeries("1.2.1.1", "MR", 3),)
    recorder = Recorder(db, archive)
    recorder.look(clock.now + 5)
    recorder.answer()
    clock.pass_seconds(6)
    life.receive(images=1)
    evidence, asks_at = recorder.look(clock.now)
    assert evidence.count == Count("PACS1", {"1.2.1.1": 3})
    assert asks_at == clock.now + 5


def test_archive_that_does_not_answer_is_told_of_once_and_asked_ever_more_rarely(
    db, life, clock, archive
) -> None:
    study = life.receive()
    archive.counted = NotCounted("rejected our association as PREREAD")
    recorder = Recorder(db, archive)
    at, waits = clock.now + 5, []
    for _ in range(5):
        assert recorder.look(at)[1] is None
        recorder.answer()
        evidence, asks_at = recorder.look(at)
        assert evidence.count is None
        assert asks_at is not None
        waits.append(asks_at - at)
        at = asks_at
    assert waits == [10, 20, 40, 80, 160]
    assert told(db, study.id) == [
        "PACS1 was asked how many instances there are and rejected our association as PREREAD"
    ]


def test_nobody_is_asked_about_studies_of_others(db, life, clock, archive) -> None:
    life.receive(calling_ae="PACS2")
    recorder = Recorder(db, archive)
    assert recorder.look(clock.now + 100) == (recorder.look(clock.now + 100)[0], None)
    assert archive.asked == 0
