"""Exactly what is stated and not held is asked for, a few times, after it had time to come by itself."""

from hypothesis import given
from hypothesis import strategies as st

from listener.completeness import Count, Evidence, Notice, Patience, SeriesEvidence
from listener.missing import AGAIN_SECONDS, TRIES_MAX, Asked, Missing, ask_at, missing_of

PATIENCE = Patience(
    30,
    by_peer={},
    by_modality={},
    open_seconds_max=3600,
    missing_seconds_max=600,
    notices_about={"PACS": "own", "RIS": "none"},
)
A, B = "1.2.1", "1.2.2"


def evidence(*notices: Notice, held: frozenset[str] = frozenset(("9.1",)), **counts: int) -> Evidence:
    count = Count("PACS", {{"a": A, "b": B}[name]: number for name, number in counts.items()})
    series = (SeriesEvidence(A, "MR", len(held), 0.0, held),)
    return Evidence("PACS", 0.0, 0.0, series, True, held, notices, count if counts else None)


def stating(source: str = "PACS", **by_series: frozenset[str]) -> Notice:
    named = {{"a": A, "b": B}[name]: uids for name, uids in by_series.items()}
    return Notice("ian", source, frozenset().union(*named.values()), by_series=named)


def test_instances_that_a_notice_names_are_missing_by_name() -> None:
    found = evidence(stating(a=frozenset(("9.1", "9.2"))), stating(b=frozenset(("8.1",))))
    assert missing_of(found, PATIENCE) == Missing({A: frozenset(("9.2",)), B: frozenset(("8.1",))})


def test_what_only_a_count_knows_is_missing_by_series() -> None:
    assert missing_of(evidence(a=3, b=2), PATIENCE) == Missing(counted={A: 2, B: 2})


def test_series_is_asked_for_by_name_when_the_count_says_no_more() -> None:
    found = evidence(stating(a=frozenset(("9.1", "9.2"))), a=2)
    assert missing_of(found, PATIENCE) == Missing({A: frozenset(("9.2",))})


def test_series_is_asked_for_as_a_whole_when_more_is_counted_than_named() -> None:
    found = evidence(stating(a=frozenset(("9.1", "9.2"))), a=4)
    assert missing_of(found, PATIENCE) == Missing(counted={A: 3})


def test_nothing_is_missing_that_nobody_stated_or_nobody_believed_states() -> None:
    assert missing_of(evidence(), PATIENCE).instances == 0
    assert missing_of(evidence(stating("RIS", a=frozenset(("9.5",)))), PATIENCE).instances == 0
    assert missing_of(evidence(stating(a=frozenset(("9.1",))), a=1, b=0), PATIENCE).instances == 0


UIDS = st.frozensets(st.sampled_from([f"9.{n}" for n in range(5)]))


@given(UIDS, st.lists(st.tuples(UIDS, st.sampled_from(["PACS", "RIS"])), max_size=4), st.randoms())
def test_by_name_it_is_what_believed_notices_name_and_is_not_held_in_any_order(
    held: frozenset[str], said: list[tuple[frozenset[str], str]], rng: object
) -> None:
    notices = [stating(source, a=uids) for uids, source in said]
    found = missing_of(evidence(*notices, held=held), PATIENCE)
    named = frozenset().union(*(uids for uids, source in said if source == "PACS"))
    assert found.named.get(A, frozenset()) == named - held
    rng.shuffle(notices)  # type: ignore[attr-defined]
    assert missing_of(evidence(*notices, *notices, held=held), PATIENCE) == found


@given(st.lists(st.floats(0, 1000), max_size=10), st.floats(0, 1000))
def test_tries_are_few_never_two_at_once_and_never_before_the_quiet_period_ends(
    delays: list[float], quiet_at: float
) -> None:
    asked, now, tries = Asked(), 0.0, 0
    for delay in delays:
        at = ask_at(asked, quiet_at)
        if at is None:
            break
        assert at >= quiet_at
        assert not tries or at >= asked.ended_at + AGAIN_SECONDS[0]
        now = max(now, at) + delay
        asked, tries = asked.begun(), tries + 1
        assert ask_at(asked, quiet_at) is None
        asked = asked.ended(now)
    assert tries <= TRIES_MAX
