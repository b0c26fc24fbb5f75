"""Who connects too often waits for its turn; the oldest goes first, in both senses."""

import socket
from collections.abc import Iterator

import pytest

from listener.connection import Connection
from listener.half_made import HalfMade

PER_SECOND = 1.0
BURST = 2  # connections that an address may have at once at this rate


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    opened = [socket.socket() for _ in range(12)]
    yield opened
    for each in opened:
        each.close()


@pytest.fixture
def of_a(sockets: list[socket.socket]) -> list[Connection]:
    return [Connection(each, "a", 0.0) for each in sockets[:6]]


@pytest.fixture
def of_b(sockets: list[socket.socket]) -> list[Connection]:
    return [Connection(each, "b", 0.0) for each in sockets[6:]]


def test_those_beyond_the_rate_come_later_in_their_order(of_a: list[Connection]) -> None:
    half_made = HalfMade(PER_SECOND)
    assert [half_made.add(each, 0.0) for each in of_a[:4]] == [True] * BURST + [False] * 2
    assert half_made.due(0.5) == []
    assert half_made.due(1.1) == [of_a[2]]
    assert not half_made.add(of_a[4], 2.2), "who waits already comes first"
    assert half_made.due(3.3) == [of_a[3], of_a[4]]
    assert not half_made.are_held


def test_another_address_does_not_wait(of_a: list[Connection], of_b: list[Connection]) -> None:
    half_made = HalfMade(PER_SECOND)
    for each in of_a:
        half_made.add(each, 0.0)
    assert half_made.add(of_b[0], 0.0)


def test_who_left_while_waiting_is_never_due(of_a: list[Connection]) -> None:
    half_made = HalfMade(PER_SECOND)
    for each in of_a:
        half_made.add(each, 0.0)
    for each in of_a[2:]:
        assert half_made.is_held(each)
        half_made.remove(each)
    assert half_made.due(100.0) == []
    assert not half_made.are_held


def test_costly_one_makes_its_address_wait(of_a: list[Connection]) -> None:
    half_made = HalfMade(PER_SECOND)
    assert half_made.add(of_a[0], 0.0)
    half_made.charge(of_a[0], 1.0, 0.0)
    assert not half_made.add(of_a[1], 1.5)


def test_request_that_was_read_waits_for_what_its_address_owes(
    of_a: list[Connection], of_b: list[Connection]
) -> None:
    half_made = HalfMade(PER_SECOND)
    for each in (*of_a[:2], of_b[0]):
        assert half_made.add(each, 0.0)
        assert not half_made.holds_back(each, 0.0)
    half_made.charge(of_a[0], 1.0, 0.0)
    assert half_made.holds_back(of_a[1], 0.0)
    assert half_made.is_held(of_a[1])
    assert not half_made.holds_back(of_b[0], 0.0)
    assert half_made.due(1.0) == []
    assert half_made.due(10.0) == [of_a[1]]
    assert not half_made.holds_back(of_a[1], 10.0)


def test_oldest_is_of_the_address_that_has_most(of_a: list[Connection], of_b: list[Connection]) -> None:
    half_made = HalfMade(PER_SECOND)
    assert half_made.oldest(None) is None
    for each in (of_a[0], *of_b[:3]):
        half_made.add(each, 0.0)
    assert half_made.oldest(None) is of_b[0]
    assert half_made.oldest("a") is of_a[0]
    assert half_made.oldest("c") is None
    for each in of_b[:3]:
        half_made.remove(each)
    assert half_made.oldest(None) is of_a[0]
