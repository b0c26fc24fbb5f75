"""Deadlines are never reset by a byte, and half-made connections never keep anybody out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.guard import BURST_SECONDS, COST_SECONDS, Census, ConnectionRate, Limits, Pace, reserved_per_ae

LIMITS = Limits(
    connections_max=8,
    per_address_max=3,
    per_ae_max=4,
    reserved_per_ae=1,
    per_address_per_second=10,
    request_seconds=10,
    idle_seconds=60,
    stall_seconds=30,
)
AE_TITLES = ("A", "B", "C")


def test_request_has_a_deadline_from_accept() -> None:
    pace = Pace(accepted_at=100)
    assert pace.overdue(110, LIMITS) is None
    assert pace.overdue(110.1, LIMITS) == "association request"


def test_silent_association_has_its_idle_period() -> None:
    pace = Pace(100, is_established=True, progressed_at=200)
    assert pace.overdue(259, LIMITS) is None
    assert pace.overdue(261, LIMITS) == "next message"


def test_message_needs_a_pdu_per_stall_period() -> None:
    pace = Pace(100, is_established=True, progressed_at=200, message_at=200, message_bytes=10**9)
    assert pace.overdue(229, LIMITS) is None
    assert pace.overdue(231, LIMITS) == "message"


def test_message_in_a_trickle_ends_though_each_pdu_is_in_time() -> None:
    pace = Pace(100, is_established=True, progressed_at=200, message_at=100, message_bytes=1000)
    assert pace.overdue(205, LIMITS) == "message"
    pace.message_bytes = 100 * (16 << 10)
    assert pace.overdue(205, LIMITS) is None


def test_peer_that_does_not_read_ends() -> None:
    pace = Pace(100, is_established=True, progressed_at=200, unsent_at=200)
    assert pace.overdue(231, LIMITS) == "reading our answer"


def test_last_word_is_waited_for_a_second() -> None:
    pace = Pace(100, is_established=True, progressed_at=200, closing_at=200)
    assert pace.overdue(200.5, LIMITS) is None
    assert pace.overdue(201.5, LIMITS) == "closing"


def established(*peers: tuple[str, str]) -> Census:
    """A census with an association of each (address, AE title)."""
    census = Census(AE_TITLES)
    for address, ae_title in peers:
        census.arrived(address)
        census.accepted(address, ae_title)
    return census


def test_flood_of_one_address_displaces_its_own() -> None:
    census = Census(AE_TITLES)
    for _ in range(3):
        assert census.arrival("a", LIMITS) == "admit"
        census.arrived("a")
    assert census.arrival("a", LIMITS) == "evict-own"
    assert census.arrival("b", LIMITS) == "admit"


def test_flood_of_many_addresses_displaces_half_made_ones_only() -> None:
    census = Census(AE_TITLES)
    for n in range(8):
        census.arrived(f"a{n}")
    assert census.arrival("b", LIMITS) == "evict-any"
    for n in range(8):
        census.accepted(f"a{n}", "A")
    assert census.arrival("b", LIMITS) == "refuse"


def test_associations_of_one_address_are_bounded() -> None:
    census = established(("a", "A"), ("a", "B"), ("a", "B"))
    assert census.shortage("a", "A", LIMITS) == "of the address"
    assert census.shortage("b", "A", LIMITS) is None
    census.left("a", "B")
    assert census.shortage("a", "A", LIMITS) is None


def test_associations_of_one_ae_title_are_bounded_over_all_its_addresses() -> None:
    census = established(("a", "A"), ("b", "A"), ("c", "A"), ("d", "A"))
    assert census.shortage("e", "A", LIMITS) == "of the AE title"
    assert census.shortage("a", "B", LIMITS) is None
    census.left("c", "A")
    assert census.shortage("e", "A", LIMITS) is None


def test_each_ae_title_keeps_a_place_that_nobody_else_takes() -> None:
    census = established(*((address, ae) for ae in "AB" for address in "abc"))
    assert census.shortage("d", "A", LIMITS) is None
    census = established(*((address, ae) for ae in "AB" for address in "abc"), ("d", "A"))
    assert census.shortage("d", "B", LIMITS) == "in all"
    assert census.shortage("d", "C", LIMITS) is None


def test_places_kept_for_all_ae_titles_leave_half_to_share() -> None:
    assert reserved_per_ae(ae_titles=3, connections_max=512) == 2
    assert reserved_per_ae(ae_titles=200, connections_max=512) == 1
    assert reserved_per_ae(ae_titles=300, connections_max=512) == 0
    assert reserved_per_ae(ae_titles=0, connections_max=4) == 2


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(AE_TITLES), st.booleans()), max_size=200)
)
def test_census_follows_any_history_and_forgets_who_left(arrivals: list[tuple[str, str, bool]]) -> None:
    census = Census(AE_TITLES)
    half_made: list[str] = []
    associated: list[tuple[str, str]] = []
    for address, ae_title, accepts in arrivals:
        verdict = census.arrival(address, LIMITS)
        if verdict == "refuse":
            assert not half_made
            continue
        if verdict != "admit":
            victim = address if verdict == "evict-own" else half_made[0]
            half_made.remove(victim)
            census.left(victim, None)
        census.arrived(address)
        half_made.append(address)
        if accepts and census.shortage(address, ae_title, LIMITS) is None:
            census.accepted(address, ae_title)
            half_made.remove(address)
            associated.append((address, ae_title))
        by_ae = [ae for _, ae in associated]
        assert len(half_made) + len(associated) <= LIMITS.connections_max
        assert all(by_ae.count(ae) <= LIMITS.per_ae_max for ae in AE_TITLES)
        assert all([a for a, _ in associated].count(a) <= LIMITS.per_address_max for a, _ in associated)
        assert len(associated) + sum(ae not in by_ae for ae in AE_TITLES) <= LIMITS.connections_max
    for address in half_made:
        census.left(address, None)
    for address, ae_title in associated:
        census.left(address, ae_title)
    assert not census.half_made + census.established + census.by_ae


def test_address_that_connects_too_often_waits_and_others_do_not() -> None:
    rate = ConnectionRate(per_second=10)
    burst = int(10 * BURST_SECONDS)
    assert [rate.take("a", 0) for _ in range(burst + 1)] == [True] * burst + [False]
    assert rate.take("b", 0)
    assert not rate.take("a", 0.09)
    assert rate.take("a", 0.11)


def test_costly_connection_counts_as_many() -> None:
    rate = ConnectionRate(per_second=10)
    assert rate.take("a", 0)
    rate.charge("a", 30 * COST_SECONDS, 0)
    assert not rate.take("a", 1.1)
    assert rate.take("a", 1.3)
    rate.charge("a", 1e6, 2)
    assert rate.take("a", 2 + BURST_SECONDS + 0.2), "a debt has an end"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 0.5)), max_size=300))
def test_no_address_is_served_more_often_than_its_rate(tries: list[tuple[str, float]]) -> None:
    rate, now = ConnectionRate(per_second=10), 0.0
    served = {"a": 0, "b": 0}
    for address, pause in tries:
        now += pause
        rate.forget(now)
        served[address] += rate.take(address, now)
    assert all(count <= 10 * (BURST_SECONDS + now) + 1e-6 for count in served.values())


def test_quiet_address_is_forgotten() -> None:
    rate = ConnectionRate(per_second=10)
    rate.take("a", 0)
    assert rate != ConnectionRate(per_second=10)
    rate.forget(BURST_SECONDS)
    assert rate == ConnectionRate(per_second=10)


@pytest.mark.parametrize("speed", [16 << 10, 1 << 20])
def test_large_instance_at_a_decent_speed_is_never_overdue(speed: int) -> None:
    pace = Pace(0, is_established=True, progressed_at=0, message_at=0)
    for now in range(0, 3600, 5):
        assert pace.overdue(now, LIMITS) is None
        pace.progressed_at, pace.message_bytes = now, now * speed
