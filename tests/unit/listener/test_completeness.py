"""A study is whole by evidence at once, by silence after a while, never while something stated is missing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from listener.completeness import (
    SETTLE_SECONDS,
    Count,
    Evidence,
    Notice,
    Partial,
    Patience,
    SeriesEvidence,
    WaitUntil,
    Whole,
    decide,
    weigh,
)

PATIENCE = Patience(
    30,
    by_peer={"FAST": 2},
    by_modality={"US": 120, "CT": 10},
    open_seconds_max=3600,
    missing_seconds_max=600,
    notices_about={"PACS": "own", "FAST": "own", "SCANNER": "any", "RIS": "none"},
)
FIVE = frozenset(f"9.{n}" for n in range(5))


def evidence(
    *notices: Notice,
    modalities: tuple[str, ...] = ("MR",),
    source: str = "PACS",
    first: float = 0.0,
    last: float = 0.0,
    held: frozenset[str] = FIVE,
    count: Count | None = None,
    is_applied: bool = True,
) -> Evidence:
    """A study of five instances per series."""
    series = tuple(SeriesEvidence(f"1.2.{n}", modality, 5, last) for n, modality in enumerate(modalities))
    return Evidence(source, first, last, series, is_applied, held, notices, count)


def mpps(*uids: str, source: str = "SCANNER", is_open: bool = False) -> Notice:
    return Notice("mpps", source, frozenset(uids), is_open=is_open)


def ian(*uids: str, source: str = "PACS") -> Notice:
    return Notice("ian", source, frozenset(uids))


def ups(*uids: str, source: str = "SCANNER", is_open: bool = False, proves: bool = True) -> Notice:
    return Notice("ups", source, frozenset(uids), is_open=is_open, proves=proves and not is_open)


def counted(number: int, *, is_stable: bool = True, source: str = "PACS") -> Count:
    return Count(source, {"1.2.0": number}, is_stable=is_stable)


# Silence.


def test_whole_after_the_quiet_period_and_not_before() -> None:
    assert decide(evidence(last=100), 129.9, PATIENCE) == WaitUntil(130)
    assert decide(evidence(last=100), 130, PATIENCE) == Whole(
        "quiet", "no new instance for 30 s, 5 instances"
    )


def test_quiet_period_is_the_peers_if_it_has_one() -> None:
    assert decide(evidence(source="FAST", modalities=("US",), last=100), 101, PATIENCE) == WaitUntil(102)


def test_quiet_period_is_the_longest_of_the_modalities() -> None:
    assert decide(evidence(modalities=("CT",), last=100), 101, PATIENCE) == WaitUntil(110)
    assert decide(evidence(modalities=("CT", "US"), last=100), 101, PATIENCE) == WaitUntil(220)
    assert decide(evidence(modalities=("CT", "MR"), last=100), 101, PATIENCE) == WaitUntil(130)


def test_study_that_never_ends_closes_as_partial() -> None:
    partial = decide(evidence(first=0, last=3599), 3600, PATIENCE)
    assert partial == Partial("still receiving 1 h after the first instance")


def test_silence_means_nothing_while_instances_wait_to_be_recorded() -> None:
    for found in (evidence(last=0, is_applied=False), evidence(ian(*FIVE), is_applied=False)):
        assert isinstance(decide(found, 10**6, PATIENCE), WaitUntil)


# Statements that close.


@pytest.mark.parametrize(
    "notice", [mpps(*FIVE), ian(*FIVE), ian(*FIVE, source="SCANNER"), ups(*FIVE), ups(*FIVE, source="PACS")]
)
def test_believed_notice_that_names_everything_held_closes_once_settled(notice: Notice) -> None:
    found = evidence(notice, last=100)
    assert decide(found, 100, PATIENCE) == WaitUntil(100 + SETTLE_SECONDS)
    whole = decide(found, 100 + SETTLE_SECONDS, PATIENCE)
    assert isinstance(whole, Whole)
    assert whole.how == notice.how
    assert "all 5 instances named are here" in whole.because
    assert notice.source_ae in whole.because


def test_notices_of_single_series_prove_together_what_none_proves_alone() -> None:
    first, second = ian("9.0", "9.1"), ian("9.2", "9.3", "9.4")
    assert decide(evidence(first), 5, PATIENCE) == WaitUntil(30)
    assert isinstance(decide(evidence(first, second), 5, PATIENCE), Whole)


def test_lists_of_input_prove_together_with_each_other_and_with_notices() -> None:
    parts = [ups("9.0", "9.1"), ups("9.2", source="PACS"), ian("9.3", "9.4")]
    for left_out in range(3):
        some = [part for n, part in enumerate(parts) if n != left_out]
        assert decide(evidence(*some), 5, PATIENCE) == WaitUntil(30)
    whole = decide(evidence(*parts), 5, PATIENCE)
    assert whole == Whole("ian", "availability notice of PACS: all 5 instances named are here")
    whole = decide(evidence(ups(*FIVE)), 5, PATIENCE)
    assert whole == Whole("ups", "unified procedure step of SCANNER: all 5 instances named are here")


def test_count_of_the_archive_closes_when_it_said_the_same_twice() -> None:
    assert decide(evidence(count=counted(5, is_stable=False)), 5, PATIENCE) == WaitUntil(30)
    whole = decide(evidence(count=counted(5)), 5, PATIENCE)
    assert whole == Whole("find", "PACS counts 5 instances, asked twice; all are here")


# Statements that keep a study open, and how long.


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (evidence(mpps(*FIVE, "9.5")), "1 instance stated by SCANNER missing"),
        (evidence(ian("8.1")), "1 instance stated by PACS missing"),
        (evidence(count=counted(7, is_stable=False)), "2 instances counted by PACS missing"),
        (evidence(mpps(is_open=True)), "a procedure step of SCANNER is still in progress"),
        (evidence(ian(*FIVE), mpps(is_open=True)), "a procedure step of SCANNER is still in progress"),
        (evidence(ups(*FIVE, "9.5")), "1 instance stated by SCANNER missing"),
        (evidence(ups(*FIVE, "9.5", proves=False)), "1 instance stated by SCANNER missing"),
        (evidence(ups(*FIVE, is_open=True)), "the input that SCANNER listed is incomplete"),
        (evidence(ian(*FIVE), ups(is_open=True)), "the input that SCANNER listed is incomplete"),
        (evidence(ups(*FIVE), ups("9.0", is_open=True)), "the input that SCANNER listed is incomplete"),
        (evidence(ups("9.0", is_open=True), count=counted(5)), "the input that SCANNER listed is incomplete"),
        (evidence(mpps(*FIVE), count=counted(7)), "2 instances counted by PACS missing"),
    ],
)
def test_study_waits_for_what_was_stated_and_is_partial_in_the_end(found: Evidence, words: str) -> None:
    assert decide(found, 599, PATIENCE) == WaitUntil(600)
    partial = decide(found, 600, PATIENCE)
    assert partial == Partial(f"nothing new for 10 min: {words}")


def test_stated_instances_are_not_waited_for_beyond_the_hard_deadline() -> None:
    found = evidence(mpps(*FIVE, "9.5"), first=0, last=3500)
    assert decide(found, 3599, PATIENCE) == WaitUntil(3600)
    partial = decide(found, 3600, PATIENCE)
    assert isinstance(partial, Partial)
    assert "1 h after the first instance: 1 instance stated by SCANNER missing" in partial.because


def test_quiet_period_longer_than_the_wait_for_missing_instances_is_kept() -> None:
    patient = replace(PATIENCE, missing_seconds_max=5)
    assert decide(evidence(ian("8.1")), 29, patient) == WaitUntil(30)
    assert isinstance(decide(evidence(ian("8.1")), 30, patient), Partial)


# Statements that prove nothing: the quiet period decides as if they were not there.


@pytest.mark.parametrize(
    "found",
    [
        evidence(mpps("9.0", "9.1")),  # fewer than are held
        evidence(ian()),  # nothing
        evidence(mpps()),  # a step that made nothing
        evidence(count=counted(3)),  # an archive that is behind
        evidence(count=Count("PACS", {}, is_stable=True)),  # an archive that does not know the study
        evidence(ian(*FIVE, "9.5", source="FAST")),  # about another peer's study
        evidence(mpps(*FIVE, "9.5", source="RIS")),  # of one whose notices are only noted
        evidence(mpps(*FIVE, "9.5", source="NOBODY")),  # of one that is no peer any more
        evidence(mpps(is_open=True, source="RIS")),
        evidence(ian(*FIVE, source="FAST")),
        evidence(ups(*FIVE, proves=False)),  # a list that is known not to say all
        evidence(ups(*FIVE - {"9.0"}), ups("9.0", proves=False)),
        evidence(ups("9.0", "9.1")),
        evidence(ups()),
        evidence(ups(*FIVE, source="RIS"), ups(is_open=True, source="RIS")),
    ],
)
def test_statement_that_proves_nothing_neither_closes_nor_delays(found: Evidence) -> None:
    assert decide(found, 29, PATIENCE) == WaitUntil(30)
    decision = decide(found, 30, PATIENCE)
    assert isinstance(decision, Whole)
    assert decision.how == "quiet"


def test_patience_comes_from_the_settings() -> None:
    settings = Settings.model_validate(
        {
            "peers": [
                {"name": "a", "ae_title": "A", "quiet_seconds": 3},
                {"name": "b", "ae_title": "B", "notices_about": "any"},
            ],
            "listener": {
                "quiet_seconds": 7,
                "quiet_seconds_by_modality": {"US": 9},
                "open_hours_max": 2,
                "missing_minutes_max": 5,
            },
        }
    )
    assert Patience.of(settings) == Patience(7, {"A": 3}, {"US": 9}, 7200, 300, {"A": "own", "B": "any"})


# For any evidence: honest, late, repeated and lying statements in any order.

UIDS = st.frozensets(st.sampled_from([f"9.{n}" for n in range(8)]))
PEERS = st.sampled_from(["PACS", "FAST", "SCANNER", "RIS", "NOBODY"])
NOTICES = st.lists(
    st.builds(
        Notice,
        how=st.sampled_from(["ian", "mpps", "ups"]),
        source_ae=PEERS,
        named=UIDS,
        is_open=st.booleans(),
        proves=st.booleans(),
    ),
    max_size=4,
).map(tuple)
COUNTS = st.none() | st.builds(
    Count,
    source_ae=PEERS,
    by_series=st.dictionaries(st.sampled_from(["1.2.0", "1.2.1", "1.2.2"]), st.integers(0, 8)),
    is_stable=st.booleans(),
)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    held = sorted(draw(UIDS))
    cut = draw(st.integers(0, len(held)))
    first = draw(st.floats(0, 1000))
    last = first + draw(st.floats(0, 10_000))
    parts = [part for part in (held[:cut], held[cut:]) if part]
    modality = st.sampled_from(["MR", "US", "CT", ""])
    return Evidence(
        source_ae=draw(st.sampled_from(["PACS", "FAST"])),
        first_received_at=first,
        last_received_at=last,
        series=tuple(
            SeriesEvidence(f"1.2.{n}", draw(modality), len(part), last) for n, part in enumerate(parts)
        ),
        is_applied=draw(st.booleans()),
        held=frozenset(held),
        notices=draw(NOTICES),
        count=draw(COUNTS),
    )


TIMES = st.floats(0, 100_000)


def believed(found: Evidence) -> list[Notice]:
    return [n for n in found.notices if PATIENCE.believes(n, of_study_from=found.source_ae)]


def deadline(found: Evidence) -> float:
    """The latest end of any study, whatever anybody states."""
    patience = max(PATIENCE.quiet_for(found), PATIENCE.missing_seconds_max)
    hard = found.first_received_at + PATIENCE.open_seconds_max
    return max(min(hard, found.last_received_at + patience), 0)


@given(evidences(), TIMES)
def test_never_whole_while_something_stated_is_missing_or_unrecorded(found: Evidence, now: float) -> None:
    if isinstance(decide(found, now, PATIENCE), Whole):
        assert found.is_applied
        for notice in believed(found):
            assert notice.named <= found.held
            assert not notice.is_open
        held = {series.series_uid: series.instances for series in found.series}
        for series_uid, number in (found.count.by_series if found.count else {}).items():
            assert number <= held.get(series_uid, 0)


@given(evidences(), TIMES)
def test_whole_before_the_quiet_period_only_by_a_proof(found: Evidence, now: float) -> None:
    decision = decide(found, now, PATIENCE)
    if not isinstance(decision, Whole):
        return
    assert now >= found.last_received_at + min(SETTLE_SECONDS, PATIENCE.quiet_for(found))
    if now < found.last_received_at + PATIENCE.quiet_for(found):
        stating = [n for n in believed(found) if n.named and n.proves]
        by_notice = bool(stating) and found.held == frozenset().union(*(n.named for n in stating))
        by_count = found.count is not None and found.count.is_stable
        assert decision.how in ("ian", "mpps", "ups", "find")
        assert by_notice if decision.how != "find" else by_count
        assert decision.how == "find" or decision.how in {n.how for n in stating}


@given(evidences(), st.floats(0, 1000))
def test_never_open_beyond_the_deadline_whatever_is_stated(found: Evidence, later: float) -> None:
    found = replace(found, is_applied=True)
    assert not isinstance(decide(found, deadline(found) + later, PATIENCE), WaitUntil)


@given(evidences(), TIMES)
def test_waiting_always_ends(found: Evidence, now: float) -> None:
    found = replace(found, is_applied=True)
    for _ in range(3):
        decision = decide(found, now, PATIENCE)
        if not isinstance(decision, WaitUntil):
            return
        assert decision.at > now
        now = decision.at
    raise AssertionError(f"still waiting at {now}: {found}")


@given(evidences(), TIMES, st.floats(0, 1000))
def test_once_whole_it_stays_whole_as_time_passes(found: Evidence, now: float, later: float) -> None:
    if isinstance(decide(found, now, PATIENCE), Whole):
        assert isinstance(decide(found, now + later, PATIENCE), Whole)


@given(evidences(), TIMES, st.floats(0.001, 1000))
def test_a_new_image_never_makes_a_study_whole(found: Evidence, now: float, later: float) -> None:
    if isinstance(decide(found, now, PATIENCE), WaitUntil):
        newer = replace(found, last_received_at=max(now, found.last_received_at) + later)
        assert not isinstance(decide(newer, now, PATIENCE), Whole)


@given(evidences(), TIMES, st.randoms(use_true_random=False))
def test_order_and_repetition_of_notices_change_nothing(found: Evidence, now: float, rng: object) -> None:
    shuffled = list(found.notices) * 2
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(replace(found, notices=tuple(shuffled)), now, PATIENCE) == decide(found, now, PATIENCE)


@given(evidences(), TIMES)
def test_losing_every_notice_and_count_leaves_the_rules_of_silence(found: Evidence, now: float) -> None:
    silent = decide(replace(found, is_applied=True, notices=(), count=None), now, PATIENCE)
    quiet_at = found.last_received_at + PATIENCE.quiet_for(found)
    closes_at = found.first_received_at + PATIENCE.open_seconds_max
    assert isinstance(silent, Whole) == (now >= quiet_at)
    assert isinstance(silent, Partial) == (closes_at <= now < quiet_at)


@given(evidences(), NOTICES, TIMES)
def test_peers_nobody_believes_can_change_nothing(
    found: Evidence, more: tuple[Notice, ...], now: float
) -> None:
    lies = tuple(replace(notice, source_ae="RIS") for notice in more)
    assert decide(replace(found, notices=(*found.notices, *lies)), now, PATIENCE) == decide(
        found, now, PATIENCE
    )


@given(evidences(), NOTICES, TIMES)
def test_lists_that_do_not_say_all_bring_no_end_forward(
    found: Evidence, more: tuple[Notice, ...], now: float
) -> None:
    partly = tuple(replace(notice, proves=False) for notice in more)
    told = decide(replace(found, notices=(*found.notices, *partly)), now, PATIENCE)
    if isinstance(told, Whole):
        assert isinstance(decide(found, now, PATIENCE), Whole)


@given(evidences())
def test_what_is_missing_is_never_told_as_nothing(found: Evidence) -> None:
    stated = weigh(found, PATIENCE)
    assert (stated.whole is None) or not stated.lacks
    assert (stated.missing > 0) <= bool(stated.lacks)
