"""The longest pause within each closed study, from the rows of its instances."""

from typing import Any

from db.engine import Database
from db.intake import close_study
from db.pauses import PAUSE_SECONDS_MAX, longest_pauses
from db.records import StudyPause


def receive(life: Any, clock: Any, study: str, *waits: float, closes: bool = True, **options: Any) -> None:
    """One image, and another after each wait."""
    life.receive(study, images=1, **options)
    for seconds in waits:
        clock.pass_seconds(seconds)
        life.receive(study, images=1, **options)
    if closes:
        record = life.study(study)
        assert close_study(
            life.db, record.id, record.revision, how="quiet", partial=False, evidence_text="silence"
        )


def test_each_closed_study_has_its_longest_pause_newest_first(db: Database, life: Any, clock: Any) -> None:
    receive(life, clock, "1.2.1", 1, 20, 3)
    receive(life, clock, "1.2.2", 2, calling_ae="US1", Modality="US")
    receive(life, clock, "1.2.3", 7, closes=False)
    receive(life, clock, "1.2.4")
    assert longest_pauses(db, newest=10) == [
        StudyPause("US1", ("US",), 2.0),
        StudyPause("PACS1", ("MR",), 20.0),
    ]
    assert longest_pauses(db, newest=2) == [StudyPause("US1", ("US",), 2.0)]


def test_late_image_is_a_pause_unless_it_came_much_later(db: Database, life: Any, clock: Any) -> None:
    receive(life, clock, "1.2.1", 5)
    clock.pass_seconds(300)
    receive(life, clock, "1.2.1")
    assert [one.seconds for one in longest_pauses(db, newest=10)] == [300.0]
    clock.pass_seconds(PAUSE_SECONDS_MAX + 1)
    receive(life, clock, "1.2.1")
    assert [one.seconds for one in longest_pauses(db, newest=10)] == [300.0]


def test_own_results_that_come_back_are_no_part_of_the_rhythm(db: Database, life: Any, clock: Any) -> None:
    receive(life, clock, "1.2.1", 5)
    clock.pass_seconds(100)
    life.receive("1.2.1", images=1, own=True, is_image=False)
    assert [one.seconds for one in longest_pauses(db, newest=10)] == [5.0]
