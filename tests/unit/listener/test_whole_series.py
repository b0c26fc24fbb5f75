"""A series is whole before its study only by statements that agree with what is held, one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.completeness import SETTLE_SECONDS, Count, Evidence, Notice, Patience, SeriesEvidence
from listener.series_counts import ASKED_MAX, SeriesCount, ask_at, counted_again
from listener.whole_series import whole_series

PATIENCE = Patience(
    30,
    by_peer={},
    by_modality={},
    open_seconds_max=3600,
    missing_seconds_max=600,
    notices_about={"PACS": "own", "SCANNER": "any", "OTHER": "own", "RIS": "none"},
)
A, B = "1.2.1", "1.2.2"
OF_A, OF_B = frozenset(("9.1", "9.2")), frozenset(("9.3", "9.4"))


def notice(
    how: str, source: str, *, is_open: bool = False, proves: bool = True, **by_series: frozenset[str]
) -> Notice:
    named = {{"a": A, "b": B}[name]: uids for name, uids in by_series.items()}
    return Notice(how, source, frozenset().union(*named.values()), is_open, named, proves)  # type: ignore[arg-type]


def evidence(
    *notices: Notice,
    a: frozenset[str] = OF_A,
    b: frozenset[str] = frozenset(("9.3",)),
    last_a: float = 0.0,
    last_b: float = 100.0,
    counted_a: int | None = None,
    count: Count | None = None,
    is_applied: bool = True,
) -> Evidence:
    """Series A, and B of which images still arrive."""
    series = (
        SeriesEvidence(A, "MR", len(a), last_a, a, counted_a),
        SeriesEvidence(B, "MR", len(b), last_b, b),
    )
    return Evidence("PACS", 0.0, last_b, series, is_applied, a | b, notices, count)


def proven(found: Evidence, now: float = 100.0) -> dict[str, str]:
    return {uid: proof.how for uid, proof in whole_series(found, now, PATIENCE).proofs.items()}


def test_ended_step_proves_each_series_of_which_all_it_lists_is_here_at_once() -> None:
    found = evidence(notice("mpps", "SCANNER", a=OF_A, b=OF_B), last_a=100)
    assert proven(found) == {A: "mpps"}
    (proof,) = whole_series(found, 100, PATIENCE).proofs.values()
    assert proof.because == "procedure step of SCANNER names its 2 instances"


def test_availability_notice_proves_a_series_once_it_settled() -> None:
    found = evidence(notice("ian", "PACS", a=OF_A), last_a=100)
    assert proven(found, 100) == {}
    assert whole_series(found, 100, PATIENCE).look_at == 100 + SETTLE_SECONDS
    assert proven(found, 100 + SETTLE_SECONDS) == {A: "ian"}


def test_list_of_input_proves_a_series_once_it_settled() -> None:
    found = evidence(notice("ups", "SCANNER", a=OF_A), last_a=100)
    assert proven(found, 100) == {}
    assert proven(found, 100 + SETTLE_SECONDS) == {A: "ups"}
    (proof,) = whole_series(found, 110, PATIENCE).proofs.values()
    assert proof.because == "unified procedure step of SCANNER names its 2 instances"


def test_archive_that_counted_the_series_twice_proves_it() -> None:
    assert proven(evidence(counted_a=2)) == {A: "find"}


def test_several_notices_prove_together_what_none_does_alone() -> None:
    first, second = notice("ian", "PACS", a=frozenset(("9.1",))), notice("ian", "PACS", a=frozenset(("9.2",)))
    assert proven(evidence(first)) == {}
    assert proven(evidence(first, second)) == {A: "ian"}


@pytest.mark.parametrize(
    "found",
    [
        evidence(),  # silence, however long
        evidence(notice("mpps", "SCANNER", b=OF_B)),  # about another series
        evidence(notice("mpps", "SCANNER", a=OF_A | {"9.9"})),  # one is missing
        evidence(notice("mpps", "SCANNER", a=frozenset(("9.1",)))),  # more is here than was named
        evidence(notice("mpps", "SCANNER", a=OF_A, is_open=True)),  # the scanner is at it
        evidence(notice("mpps", "SCANNER", a=OF_A), notice("mpps", "SCANNER", a=OF_A, is_open=True)),
        evidence(notice("ian", "PACS", a=OF_A), notice("mpps", "SCANNER", is_open=True)),
        evidence(notice("mpps", "SCANNER", is_open=True), counted_a=2),
        evidence(notice("ups", "SCANNER", a=OF_A, proves=False)),  # it does not say all
        evidence(
            notice("ups", "SCANNER", a=OF_A - {"9.1"}),
            notice("ups", "SCANNER", a=frozenset(("9.1",)), proves=False),
        ),
        evidence(notice("ups", "SCANNER", a=OF_A), notice("ups", "SCANNER", is_open=True, proves=False)),
        evidence(notice("ups", "SCANNER", a=OF_A), notice("mpps", "SCANNER", is_open=True)),
        evidence(notice("ups", "SCANNER", is_open=True, proves=False), counted_a=2),
        evidence(notice("ups", "SCANNER", a=OF_A | {"9.9"}), notice("ian", "PACS", a=OF_A)),
        evidence(notice("ups", "RIS", a=OF_A)),
        evidence(notice("mpps", "RIS", a=OF_A)),  # not believed
        evidence(notice("ian", "OTHER", a=OF_A)),  # about another peer's study
        evidence(notice("mpps", "SCANNER", a=OF_A), notice("ian", "PACS", a=frozenset(("9.9",)))),
        evidence(notice("mpps", "SCANNER", a=OF_A), count=Count("PACS", {A: 3})),  # the archive has one more
        evidence(counted_a=3),
        evidence(counted_a=1),
        evidence(notice("ian", "PACS", a=frozenset(("9.9",))), counted_a=2),
        evidence(notice("mpps", "SCANNER", a=OF_A), is_applied=False),
    ],
)
def test_no_series_is_whole_while_anything_speaks_against_it_or_nothing_for_it(found: Evidence) -> None:
    assert A not in proven(found, 10**6)


def test_ended_step_proves_its_series_while_a_step_of_others_goes_on() -> None:
    found = evidence(notice("mpps", "SCANNER", a=OF_A), notice("mpps", "SCANNER", b=OF_B, is_open=True))
    assert proven(found) == {A: "mpps"}


# Orderings, losses, repetitions and lies.

UIDS = st.frozensets(st.sampled_from([f"9.{n}" for n in range(5)]), max_size=4)
NOTICES = st.lists(
    st.builds(
        lambda how, source, is_open, proves, a, b: notice(
            how, source, is_open=is_open, proves=proves, a=a, b=b
        ),
        st.sampled_from(["ian", "mpps", "ups"]),
        st.sampled_from(["PACS", "SCANNER", "OTHER", "RIS", "NOBODY"]),
        st.booleans(),
        st.booleans(),
        UIDS,
        UIDS,
    ),
    max_size=4,
)
EVIDENCES = st.builds(
    lambda notices, a, b, last, counted, count, is_applied: evidence(
        *notices,
        a=a,
        b=b - a,
        last_a=last,
        counted_a=counted,
        count=None if count is None else Count("PACS", {A: count}),
        is_applied=is_applied,
    ),
    NOTICES,
    UIDS,
    UIDS,
    st.floats(0, 200),
    st.none() | st.integers(0, 4),
    st.none() | st.integers(0, 4),
    st.booleans(),
)
TIMES = st.floats(0, 1000)


def believed(found: Evidence) -> list[Notice]:
    return [n for n in found.notices if PATIENCE.believes(n, of_study_from=found.source_ae)]


@given(EVIDENCES, TIMES)
def test_whole_only_when_all_that_was_stated_of_the_series_is_here_and_somebody_stated_all(
    found: Evidence, now: float
) -> None:
    for uid, proof in whole_series(found, now, PATIENCE).proofs.items():
        (series,) = (one for one in found.series if one.series_uid == uid)
        assert found.is_applied
        assert series.held
        stated = frozenset().union(*(n.by_series.get(uid, frozenset()) for n in believed(found)))
        assert stated <= series.held
        assert (found.count.by_series.get(uid, 0) if found.count else 0) <= series.instances
        assert stated == series.held if proof.how != "find" else series.counted == len(series.held)
        complete = frozenset().union(
            *(n.by_series.get(uid, frozenset()) for n in believed(found) if n.proves)
        )
        assert proof.how == "find" or complete == series.held
        assert not any(n.is_open and n.by_series.get(uid) for n in believed(found))
        if proof.how != "mpps":
            assert not any(n.is_open for n in believed(found))


@given(EVIDENCES, TIMES, st.randoms(use_true_random=False))
def test_order_and_repetition_of_notices_change_nothing(found: Evidence, now: float, rng: object) -> None:
    shuffled = list(found.notices) * 2
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    again = evidence_with(found, tuple(shuffled))
    assert whole_series(again, now, PATIENCE) == whole_series(found, now, PATIENCE)


@given(EVIDENCES, TIMES)
def test_losing_every_statement_proves_nothing(found: Evidence, now: float) -> None:
    lost = Evidence(
        found.source_ae,
        found.first_received_at,
        found.last_received_at,
        tuple(
            SeriesEvidence(s.series_uid, s.modality, s.instances, s.last_received_at) for s in found.series
        ),
    )
    assert whole_series(lost, now, PATIENCE).proofs == {}


@given(EVIDENCES, TIMES, NOTICES)
def test_peers_nobody_believes_can_neither_prove_nor_prevent(
    found: Evidence, now: float, lies: list[Notice]
) -> None:
    ignored = tuple(Notice(n.how, "RIS", n.named, n.is_open, n.by_series, n.proves) for n in lies)
    told = evidence_with(found, (*found.notices, *ignored))
    assert whole_series(told, now, PATIENCE) == whole_series(found, now, PATIENCE)


@given(EVIDENCES, TIMES, NOTICES)
def test_lists_that_do_not_say_all_prove_no_series(found: Evidence, now: float, more: list[Notice]) -> None:
    partly = tuple(Notice(n.how, n.source_ae, n.named, n.is_open, n.by_series, proves=False) for n in more)
    told = evidence_with(found, (*found.notices, *partly))
    assert proven(told, now).keys() <= proven(found, now).keys()


@given(EVIDENCES, TIMES, st.floats(0, 1000))
def test_once_proven_it_stays_proven_as_time_passes(found: Evidence, now: float, later: float) -> None:
    assert proven(found, now).items() <= proven(found, now + later).items()


@given(EVIDENCES, TIMES)
def test_when_to_look_again_is_later_and_then_there_is_a_proof(found: Evidence, now: float) -> None:
    look_at = whole_series(found, now, PATIENCE).look_at
    if look_at is not None:
        assert look_at > now
        assert len(proven(found, look_at)) > len(proven(found, now))


def evidence_with(found: Evidence, notices: tuple[Notice, ...]) -> Evidence:
    return Evidence(
        found.source_ae,
        found.first_received_at,
        found.last_received_at,
        found.series,
        found.is_applied,
        found.held,
        notices,
        found.count,
    )


# What an archive counts of one series.


def test_series_is_asked_for_twice_after_its_last_instance() -> None:
    fresh = SeriesCount(100.0)
    assert ask_at(fresh, 600) == 105
    once = counted_again(fresh, 24, asked_of=100.0, now=106)
    assert (once.settled, ask_at(once, 600)) == (None, 116)
    twice = counted_again(once, 24, asked_of=130.0, now=117)
    assert (twice.settled, ask_at(twice, 600)) == (24, None)


def test_answer_to_a_question_before_the_last_instance_says_nothing() -> None:
    fresh = SeriesCount(100.0)
    assert counted_again(fresh, 24, asked_of=99.0, now=106) == fresh


@given(st.lists(st.none() | st.integers(0, 3), max_size=10))
def test_a_number_is_settled_only_when_said_twice_in_a_row_and_questions_end(
    answers: list[int | None],
) -> None:
    known, given_answers = SeriesCount(0.0), []
    for answer in answers:
        if ask_at(known, 30) is None:
            break
        given_answers.append(answer)
        known = counted_again(known, answer, asked_of=1.0, now=1.0)
    assert len(given_answers) <= ASKED_MAX
    said_twice = len(given_answers) >= 2 and given_answers[-1] == given_answers[-2] is not None
    assert (known.settled is not None) == said_twice
