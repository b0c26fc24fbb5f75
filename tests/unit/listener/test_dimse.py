"""Messages are assembled from values in any cut, in their order, within bounds."""

import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from dicom_peer import CT, command_set, comment_of, echo_command, even, status_of, store_command
from hypothesis import given
from hypothesis import strategies as st

from listener.dimse import (
    DimseReader,
    EchoRequest,
    Fragment,
    StoreRequest,
    echo_response,
    read_command,
    store_response,
)
from listener.pdu import Pdv, PeerError

UID = b"1.2.3.4"


def value(context_id: int, data: bytes, *, command: bool, last: bool = True) -> Pdv:
    return Pdv(context_id, command, last, memoryview(data))


def take_all(reader: DimseReader, values: Iterable[Pdv]) -> None:
    for each in values:
        reader.take(each)


def test_store_request_is_followed_by_its_fragments() -> None:
    reader = DimseReader()
    request = reader.take(value(1, store_command(UID, message_id=7), command=True))
    assert request == StoreRequest(1, 7, CT.encode(), UID)
    assert reader.is_inside_message
    first = reader.take(value(1, b"ab", command=False, last=False))
    last = reader.take(value(1, b"cd", command=False))
    assert isinstance(first, Fragment)
    assert isinstance(last, Fragment)
    assert (bytes(first.data), first.is_last, bytes(last.data), last.is_last) == (b"ab", False, b"cd", True)
    assert not reader.is_inside_message


@given(st.lists(st.integers(1, 200), max_size=20))
def test_command_cut_anywhere_is_the_same_request(cuts: list[int]) -> None:
    command = store_command(UID)
    edges = sorted({0, len(command), *(cut % len(command) for cut in cuts)})
    reader = DimseReader()
    found = [
        reader.take(value(1, command[start:end], command=True, last=end == len(command)))
        for start, end in pairwise(edges)
    ]
    assert found[-1] == StoreRequest(1, 1, CT.encode(), UID)
    assert not any(found[:-1])


def test_echo_is_a_request_without_dataset() -> None:
    reader = DimseReader()
    assert isinstance(reader.take(value(3, echo_command(9), command=True)), EchoRequest)
    assert not reader.is_inside_message


@pytest.mark.parametrize(
    "values",
    [
        [value(1, b"data", command=False)],
        [value(1, store_command(UID), command=True), value(3, b"data", command=False)],
        [value(1, store_command(UID), command=True), value(1, echo_command(), command=True)],
        [value(1, store_command(UID)[:9], command=True)],
        [value(1, store_command(UID)[:-1], command=True)],
        [value(1, b"", command=True)],
        [value(1, command_set({0x0100: b"\x20\x00", 0x0110: b"\1\0", 0x0800: b"\1\1"}), command=True)],
        [value(1, command_set({0x0100: b"\x01\x00", 0x0110: b"\1\0", 0x0800: b"\1\1"}), command=True)],
        [value(1, store_command(UID)[:20], command=True, last=False), value(3, b"", command=True)],
    ],
    ids=range(9),
)
def test_values_out_of_order_or_cut_are_a_peer_error(values: list[Pdv]) -> None:
    reader = DimseReader()
    with pytest.raises(PeerError):
        take_all(reader, values)


def test_endless_command_set_ends_at_its_cap() -> None:
    reader = DimseReader()
    with pytest.raises(PeerError, match="4096"):
        take_all(reader, [value(1, bytes(1000), command=True, last=False)] * 100)


def test_dataset_in_crumbs_is_a_peer_error() -> None:
    reader = DimseReader()
    reader.take(value(1, store_command(UID), command=True))
    with pytest.raises(PeerError, match="crumbs"):
        take_all(reader, [value(1, b"x", command=False, last=False)] * 200)


def test_dataset_of_many_decent_fragments_passes() -> None:
    reader = DimseReader()
    reader.take(value(1, store_command(UID), command=True))
    for _ in range(1000):
        assert reader.take(value(1, bytes(512), command=False, last=False)) is not None


def test_cancel_is_passed_over() -> None:
    cancel = command_set({0x0100: b"\xff\x0f", 0x0120: b"\1\0", 0x0800: b"\1\1"})
    assert DimseReader().take(value(1, cancel, command=True)) is None


@given(st.binary(max_size=300))
def test_random_command_set_is_elements_or_a_peer_error(data: bytes) -> None:
    try:
        read_command(data)
    except PeerError:
        return


@given(
    st.lists(st.tuples(st.integers(0, 255), st.booleans(), st.booleans(), st.binary(max_size=90)), max_size=9)
)
def test_random_values_are_messages_or_a_peer_error(values: list[tuple[int, bool, bool, bytes]]) -> None:
    reader = DimseReader()
    try:
        for context_id, is_command, is_last, data in values:
            reader.take(Pdv(context_id, is_command, is_last, memoryview(data)))
    except PeerError:
        return


def test_store_response_carries_status_comment_and_uid() -> None:
    request = StoreRequest(5, 77, CT.encode(), UID)
    answer = store_response(request, 0xA900, "SOP Instance UID is missing")
    assert status_of(answer) == 0xA900
    assert comment_of(answer) == "SOP Instance UID is missing"
    elements = read_command(answer[12:])
    assert elements[0x0120] == struct.pack("<H", 77)
    assert elements[0x0100] == b"\x01\x80"
    assert elements[0x1000] == even(UID)
    assert struct.unpack("<L", elements[0])[0] == len(answer) - 12 - 12


def test_comment_is_cut_to_the_length_of_its_vr() -> None:
    answer = store_response(StoreRequest(5, 1, CT.encode(), UID), 0xC000, "x" * 200)
    assert len(comment_of(answer)) == 64


def test_echo_response_is_success() -> None:
    answer = echo_response(EchoRequest(3, 2, b"1.2.840.10008.1.1"))
    assert status_of(answer) == 0
    assert read_command(answer[12:])[0x0100] == b"\x30\x80"
