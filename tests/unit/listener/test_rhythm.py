"""The quiet period that is learnt of a peer: bounded, robust, and never from a few studies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import ListenerSettings
from db.records import StudyPause
from listener.completeness import Evidence, Patience, SeriesEvidence, WaitUntil, Whole, decide
from listener.rhythm import QUANTILE, SAFETY, STUDIES_MAX, Bounds, Rhythm, learnt, rhythms_of

BOUNDS = Bounds(10.0, 120.0, 30)
PAUSES = st.lists(st.floats(0, 3600), max_size=250)


def test_quiet_period_is_twice_the_pause_that_few_studies_exceed() -> None:
    assert learnt([20.0] * 29 + [3000.0], BOUNDS) == Rhythm(40.0, 30, 20.0)


@given(PAUSES)
def test_nothing_is_learnt_from_a_few_studies_and_bounds_are_kept(pauses: list[float]) -> None:
    rhythm = learnt(pauses, BOUNDS)
    assert (rhythm is None) == (len(pauses) < BOUNDS.studies_min)
    if rhythm is not None:
        assert BOUNDS.least <= rhythm.quiet_seconds <= BOUNDS.most


@given(PAUSES.filter(lambda pauses: len(pauses) >= 30), st.randoms(use_true_random=False))
def test_order_of_the_studies_changes_nothing(pauses: list[float], rng: object) -> None:
    shuffled = list(pauses)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert learnt(shuffled, BOUNDS) == learnt(pauses, BOUNDS)


@given(st.lists(st.floats(0, 3600), min_size=30, max_size=250))
def test_quiet_period_outlasts_the_pauses_of_most_studies_up_to_its_bound(pauses: list[float]) -> None:
    rhythm = learnt(pauses, BOUNDS)
    assert rhythm is not None
    survived = sum(pause <= rhythm.quiet_seconds for pause in pauses)
    assert survived >= QUANTILE * len(pauses) or rhythm.quiet_seconds == BOUNDS.most


@given(st.lists(st.floats(0, 3600), min_size=30, max_size=250), st.floats(0, 10**6))
def test_one_odd_study_never_decides(pauses: list[float], odd: float) -> None:
    changed = learnt([*pauses[1:], odd], BOUNDS)
    assert changed is not None
    others = pauses[1:]
    assert changed.quiet_seconds <= min(BOUNDS.most, max(BOUNDS.least, SAFETY * max(others)))


@given(st.lists(st.floats(0, 3600), min_size=30, max_size=250), st.integers(0), st.floats(0, 3600))
def test_longer_pauses_never_shorten_the_quiet_period(pauses: list[float], which: int, more: float) -> None:
    longer = list(pauses)
    longer[which % len(longer)] += more
    before, after = learnt(pauses, BOUNDS), learnt(longer, BOUNDS)
    assert before is not None
    assert after is not None
    assert after.quiet_seconds >= before.quiet_seconds


def test_peers_and_modalities_are_learnt_apart_and_from_their_newest_studies() -> None:
    newest = [StudyPause("PACS", ("MR",), 20.0)] * STUDIES_MAX
    pauses = [
        *newest,
        *[StudyPause("PACS", ("MR",), 50.0)] * 300,
        *[StudyPause("US1", ("US", "SR"), 9.0)] * 30,
    ]
    assert rhythms_of([*pauses, *[StudyPause("PACS", ("CT",), 1.0)] * 29], BOUNDS) == {
        ("PACS", "MR"): Rhythm(40.0, STUDIES_MAX, 20.0),
        ("US1", "US"): Rhythm(18.0, 30, 9.0),
        ("US1", "SR"): Rhythm(18.0, 30, 9.0),
    }


def patience(**changed: object) -> Patience:
    values: dict[str, object] = {
        "by_peer": {},
        "by_modality": {"US": 90},
        "rhythms": {("PACS", "MR"): Rhythm(12.5, 40, 6.25), ("PACS", "CT"): Rhythm(60.0, 30, 30.0)},
        **changed,
    }
    return Patience(30, open_seconds_max=3600, missing_seconds_max=600, **values)  # type: ignore[arg-type]


def study(*modalities: str, source: str = "PACS") -> Evidence:
    series = tuple(SeriesEvidence(f"1.{n}", modality, 5, 100.0) for n, modality in enumerate(modalities))
    return Evidence(source, 0.0, 100.0, series)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        (study("MR"), 12.5),  # shorter than the node's
        (study("CT"), 60.0),  # longer
        (study("MR", "US"), 90.0),  # the longest of its modalities, learnt or set
        (study("MR", source="OTHER"), 30.0),  # of another peer nothing was learnt
    ],
)
def test_learnt_period_takes_the_place_of_the_modalitys(found: Evidence, seconds: float) -> None:
    assert decide(found, 100 + seconds - 0.1, patience()) == WaitUntil(100 + seconds)
    assert isinstance(decide(found, 100 + seconds, patience()), Whole)


def test_what_a_site_set_for_the_peer_is_not_learnt() -> None:
    assert patience(by_peer={"PACS": 5}).quiet_for(study("MR")) == 5


def test_study_closed_by_a_learnt_period_says_so() -> None:
    whole = decide(study("MR"), 200, patience())
    assert whole == Whole("quiet", "no new instance for 12.5 s (learnt from 40 studies of PACS), 5 instances")
    plain = decide(study("US"), 200, patience())
    assert plain == Whole("quiet", "no new instance for 90 s, 5 instances")


def test_bounds_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="Exchange them"):
        ListenerSettings(quiet_learnt_seconds_min=50, quiet_learnt_seconds_max=20)
