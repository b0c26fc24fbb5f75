"""Deadlines are never reset by a byte, and half-made connections never keep anybody out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.guard import Census, Limits, Pace

LIMITS = Limits(connections_max=8, per_address_max=3, request_seconds=10, idle_seconds=60, stall_seconds=30)


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


def test_flood_of_one_address_displaces_its_own() -> None:
    census = Census()
    for _ in range(3):
        assert census.arrival("a", LIMITS) == "admit"
        census.arrived("a")
    assert census.arrival("a", LIMITS) == "evict-own"
    assert census.arrival("b", LIMITS) == "admit"


def test_flood_of_many_addresses_displaces_half_made_ones_only() -> None:
    census = Census()
    for n in range(8):
        census.arrived(f"a{n}")
    assert census.arrival("b", LIMITS) == "evict-any"
    for n in range(8):
        census.accepted(f"a{n}")
    assert census.arrival("b", LIMITS) == "refuse"


def test_associations_of_one_address_are_bounded() -> None:
    census = Census()
    for _ in range(3):
        assert census.may_establish("a", LIMITS)
        census.arrived("a")
        census.accepted("a")
    assert not census.may_establish("a", LIMITS)
    assert census.may_establish("b", LIMITS)
    census.left("a", was_established=True)
    assert census.may_establish("a", LIMITS)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=200))
def test_census_follows_any_history_and_forgets_who_left(arrivals: list[tuple[str, bool]]) -> None:
    census = Census()
    half_made: list[str] = []
    established: list[str] = []
    for address, accepts in arrivals:
        verdict = census.arrival(address, LIMITS)
        if verdict == "refuse":
            assert not half_made
            continue
        if verdict != "admit":
            victim = address if verdict == "evict-own" else half_made[0]
            half_made.remove(victim)
            census.left(victim, was_established=False)
        census.arrived(address)
        half_made.append(address)
        if accepts and census.may_establish(address, LIMITS):
            census.accepted(address)
            half_made.remove(address)
            established.append(address)
        assert len(half_made) + len(established) <= LIMITS.connections_max
        assert all(established.count(a) <= LIMITS.per_address_max for a in established)
    for address in half_made:
        census.left(address, was_established=False)
    for address in established:
        census.left(address, was_established=True)
    assert census == Census()


@pytest.mark.parametrize("speed", [16 << 10, 1 << 20])
def test_large_instance_at_a_decent_speed_is_never_overdue(speed: int) -> None:
    pace = Pace(0, is_established=True, progressed_at=0, message_at=0)
    for now in range(0, 3600, 5):
        assert pace.overdue(now, LIMITS) is None
        pace.progressed_at, pace.message_bytes = now, now * speed
