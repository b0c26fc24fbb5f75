"""A study is whole after its quiet period, never while something stated is missing, partial in the end."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from listener.completeness import Evidence, Partial, Patience, SeriesEvidence, WaitUntil, Whole, decide

PATIENCE = Patience(30, by_peer={"FAST": 2}, by_modality={"US": 120, "CT": 10}, open_seconds_max=3600)


def evidence(
    *,
    modalities: tuple[str, ...] = ("MR",),
    source: str = "PACS",
    first: float = 0.0,
    last: float = 0.0,
    expected: int | None = None,
    is_applied: bool = True,
) -> Evidence:
    series = tuple(
        SeriesEvidence(f"1.2.{n}", modality, 5, last, expected=expected)
        for n, modality in enumerate(modalities)
    )
    return Evidence(source, first, last, series, is_applied)


def test_whole_after_the_quiet_period_and_not_before() -> None:
    assert decide(evidence(last=100), 129.9, PATIENCE) == WaitUntil(130)
    whole = decide(evidence(last=100), 130, PATIENCE)
    assert isinstance(whole, Whole)
    assert whole.because == "no new instance for 30 s, 5 instances"


def test_quiet_period_is_the_peers_if_it_has_one() -> None:
    assert decide(evidence(source="FAST", modalities=("US",), last=100), 101, PATIENCE) == WaitUntil(102)


def test_quiet_period_is_the_longest_of_the_modalities() -> None:
    assert decide(evidence(modalities=("CT",), last=100), 101, PATIENCE) == WaitUntil(110)
    assert decide(evidence(modalities=("CT", "US"), last=100), 101, PATIENCE) == WaitUntil(220)
    assert decide(evidence(modalities=("CT", "MR"), last=100), 101, PATIENCE) == WaitUntil(130)


def test_study_that_never_ends_closes_as_partial() -> None:
    partial = decide(evidence(first=0, last=3599), 3600, PATIENCE)
    assert isinstance(partial, Partial)
    assert "1 h" in partial.because


def test_silence_does_not_outvote_a_stated_count() -> None:
    assert decide(evidence(last=100, expected=6), 1000, PATIENCE) == WaitUntil(3600)
    partial = decide(evidence(last=100, expected=6), 3600, PATIENCE)
    assert isinstance(partial, Partial)
    assert "1 instances are missing" in partial.because


def test_silence_means_nothing_while_instances_wait_to_be_recorded() -> None:
    assert isinstance(decide(evidence(last=0, is_applied=False), 10**6, PATIENCE), WaitUntil)


def test_patience_comes_from_the_settings() -> None:
    settings = Settings.model_validate(
        {
            "peers": [{"name": "a", "ae_title": "A", "quiet_seconds": 3}, {"name": "b", "ae_title": "B"}],
            "listener": {"quiet_seconds": 7, "quiet_seconds_by_modality": {"US": 9}, "open_hours_max": 2},
        }
    )
    assert Patience.of(settings) == Patience(7, {"A": 3}, {"US": 9}, 7200)


EVIDENCE = st.builds(
    Evidence,
    source_ae=st.sampled_from(["PACS", "FAST"]),
    first_received_at=st.floats(0, 1000),
    last_received_at=st.floats(0, 10_000),
    series=st.lists(
        st.builds(
            SeriesEvidence,
            series_uid=st.just("1.2"),
            modality=st.sampled_from(["MR", "US", "CT", ""]),
            instances=st.integers(1, 500),
            last_received_at=st.floats(0, 10_000),
            expected=st.none() | st.integers(0, 600),
        ),
        max_size=4,
    ).map(tuple),
    is_applied=st.booleans(),
)


@given(EVIDENCE, st.floats(0, 100_000))
def test_never_whole_while_something_stated_is_missing_or_unrecorded(found: Evidence, now: float) -> None:
    decision = decide(found, now, PATIENCE)
    if isinstance(decision, Whole):
        assert found.missing == 0
        assert found.is_applied
        assert now >= found.last_received_at + PATIENCE.quiet_for(found)


@given(EVIDENCE, st.floats(0, 100_000))
def test_waiting_always_ends(found: Evidence, now: float) -> None:
    found = replace(found, is_applied=True)
    for _ in range(3):
        decision = decide(found, now, PATIENCE)
        if not isinstance(decision, WaitUntil):
            return
        assert decision.at > now
        now = decision.at
    raise AssertionError(f"still waiting at {now}: {found}")


@given(EVIDENCE, st.floats(0, 100_000), st.floats(0, 1000))
def test_once_whole_it_stays_whole_as_time_passes(found: Evidence, now: float, later: float) -> None:
    if isinstance(decide(found, now, PATIENCE), Whole):
        assert isinstance(decide(found, now + later, PATIENCE), Whole)


@given(EVIDENCE, st.floats(0, 100_000), st.floats(0.001, 1000))
def test_a_new_image_never_makes_a_study_whole(found: Evidence, now: float, later: float) -> None:
    if isinstance(decide(found, now, PATIENCE), WaitUntil):
        newer = replace(found, last_received_at=max(now, found.last_received_at) + later)
        assert not isinstance(decide(newer, now, PATIENCE), Whole)
