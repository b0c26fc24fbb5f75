"""The PDU reader gives events or a peer error, whatever comes and however it is cut."""

import struct
from itertools import pairwise

import pytest
from dicom_peer import (
    CT,
    EXPLICIT,
    PLAIN_CONTEXTS,
    associate_request,
    context,
    fragments,
    item,
    pdu,
    pdv,
)
from hypothesis import given
from hypothesis import strategies as st

from listener.pdu import (
    BUFFER_BYTES_MAX,
    EMPTY_PDUS_MAX,
    Aborted,
    PduReader,
    Pdv,
    PeerError,
    Release,
    abort_pdu,
    ae_titles,
    command_pdu,
    read_request,
    reject_pdu,
    request_size,
)

PDU_BYTES = 16384

Seen = list[tuple[object, ...]]


def events_of(data: bytes, cuts: list[int], *, pdu_bytes: int = PDU_BYTES, release: bool = True) -> Seen:
    """What the reader makes of `data` cut at `cuts`; the last entry tells of a peer error."""
    reader = PduReader(pdu_bytes)
    seen: Seen = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        part = data[start:end]
        while part:
            room = reader.room()
            take = part[: len(room)]
            room[: len(take)] = take
            reader.filled(len(take))
            part = part[len(take) :]
            try:
                while (event := reader.next_event()) is not None:
                    seen.append(
                        (event.context_id, event.is_command, event.is_last, bytes(event.data))
                        if isinstance(event, Pdv)
                        else (type(event).__name__,)
                    )
                    if not isinstance(event, Pdv):
                        return seen
            except PeerError as error:
                seen.append(("error", error.reason))
                return seen
            if release:
                reader.release()
    return seen


GOOD = st.lists(
    st.lists(st.tuples(st.integers(1, 255), st.integers(0, 3), st.binary(max_size=3000)), max_size=4),
    max_size=5,
).map(lambda pdus: b"".join(pdu(4, b"".join(pdv(*v) for v in values)) for values in pdus if values))


@given(GOOD, st.lists(st.integers(0, 10**6), max_size=30), st.booleans())
def test_cut_anywhere_gives_the_events_of_all_at_once(data: bytes, cuts: list[int], release: bool) -> None:
    whole = events_of(data + pdu(5, bytes(4)), [])
    assert whole[-1] == ("Release",)
    assert events_of(data + pdu(5, bytes(4)), cuts, release=release) == whole


@given(GOOD)
def test_byte_at_a_time_equals_all_at_once(data: bytes) -> None:
    assert events_of(data[:2000], list(range(2000))) == events_of(data[:2000], [])


@given(GOOD, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutated_bytes_are_events_or_a_peer_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(data or b"\x04")
    for at, value in changes:
        mutated[at % len(mutated)] = value
    events_of(bytes(mutated), [])


@given(st.binary(max_size=4000), st.lists(st.integers(0, 10**6), max_size=10))
def test_random_bytes_are_events_or_a_peer_error(data: bytes, cuts: list[int]) -> None:
    events_of(data, cuts)


def test_values_stay_readable_while_they_are_held() -> None:
    reader = PduReader(PDU_BYTES)
    parts = [bytes([n % 256]) * 16000 for n in range(300)]
    held = []
    for part in parts:
        reader.feed(pdu(4, pdv(1, 0, part)))
        event = reader.next_event()
        assert isinstance(event, Pdv)
        held.append(event.data)
    assert [bytes(data) for data in held] == parts


def test_buffer_stays_bounded_however_much_passes_through() -> None:
    reader = PduReader(PDU_BYTES)
    for _ in range(500):
        reader.feed(pdu(4, pdv(1, 0, bytes(16000))))
        while reader.next_event() is not None:
            reader.release()
        assert len(reader.room()) <= BUFFER_BYTES_MAX


def test_idle_reader_gives_its_buffer_back_and_reads_on() -> None:
    reader = PduReader(PDU_BYTES)
    reader.feed(pdu(4, pdv(1, 0, b"x")))
    assert reader.next_event() is not None
    reader.release()
    reader.shrink()
    reader.feed(pdu(4, pdv(1, 0, b"y")))
    event = reader.next_event()
    assert isinstance(event, Pdv)
    assert bytes(event.data) == b"y"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x42", "unexpected PDU type 0x42"),
        (b"\x01", "unexpected PDU type 0x01"),
        (pdu(4, b"", length=0xFFFFFFFF), "claims 4294967295"),
        (pdu(5, b"", length=5), "claims 5"),
        (pdu(4, struct.pack(">LBB", 0, 1, 3) + bytes(20)), "contradicts"),
        (pdu(4, struct.pack(">LBB", 1, 1, 3) + bytes(20)), "contradicts"),
        (pdu(4, struct.pack(">LBB", 5000, 1, 3) + bytes(20)), "contradicts"),
        (pdu(4, bytes(5)), "cut short"),
        (pdu(4, b"") * (EMPTY_PDUS_MAX + 1), "empty"),
    ],
)
def test_a_lie_is_a_peer_error_as_soon_as_it_shows(data: bytes, why: str) -> None:
    last = events_of(data, [])[-1]
    assert last[0] == "error"
    assert why in str(last[1])


def test_release_and_abort_are_events() -> None:
    for kind, expected in ((5, Release), (7, Aborted)):
        reader = PduReader(PDU_BYTES)
        reader.feed(pdu(kind, bytes(4)))
        assert isinstance(reader.next_event(), expected)


def test_request_is_read_with_its_contexts() -> None:
    raw = associate_request(calling="SCANNER", called="PREREAD")
    request = read_request(raw)
    assert (request.calling_ae, request.called_ae) == ("SCANNER", "PREREAD") == ae_titles(raw)[::-1]
    first = request.contexts[0]
    assert (first.context_id, first.abstract_syntax, first.transfer_syntaxes) == (1, CT, (EXPLICIT,))
    assert request.user_items == {0x51, 0x52}


def test_request_size_is_known_after_six_bytes_and_bounded() -> None:
    raw = associate_request()
    assert request_size(raw[:5]) is None
    assert request_size(raw[:6]) == len(raw)
    with pytest.raises(PeerError):
        request_size(pdu(1, b"", length=0xFFFFFFFF))
    with pytest.raises(PeerError):
        request_size(b"\x16")


@pytest.mark.parametrize(
    "raw",
    [
        associate_request(contexts=b""),
        associate_request(contexts=PLAIN_CONTEXTS + context(1, CT, EXPLICIT)),
        associate_request(contexts=context(2, CT, EXPLICIT)),
        associate_request(contexts=b"".join(context(2 * n + 1, CT, EXPLICIT) for n in range(1000))),
        associate_request(contexts=context(1, "../../etc", EXPLICIT)),
        associate_request(contexts=context(1, CT)),
        associate_request(contexts=item(0x20, b"\x01\0\0\0" + item(0x30, CT.encode(), lie=1))),
        associate_request(contexts=item(0x20, b"\x01\0\0\0" + item(0x30, CT.encode()), lie=60000)),
        associate_request(extra=item(0x99, b"")),
        associate_request(user_items=item(0x51, b"\0")),
        associate_request()[:-3],
        pdu(1, bytes(20)),
    ],
)
def test_request_that_lies_is_a_peer_error(raw: bytes) -> None:
    with pytest.raises(PeerError):
        read_request(raw)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8), st.integers(0, 300))
def test_mutated_request_is_read_or_a_peer_error(changes: list[tuple[int, int]], cut: int) -> None:
    raw = bytearray(associate_request())
    for at, value in changes:
        raw[at % len(raw)] = value
    try:
        read_request(bytes(raw[: len(raw) - cut]))
    except PeerError:
        return


def test_written_pdus_have_the_bytes_of_the_standard() -> None:
    assert abort_pdu(2) == bytes.fromhex("07000000000400000202")
    assert reject_pdu(1, 1, 7) == bytes.fromhex("03000000000400010107")
    assert command_pdu(5, b"abcd") == fragments(5, b"abcd", command=True)
