"""What a fuzzer may do to the readers of hostile bytes: an event or a peer error, never another exception.

Each target takes any bytes. Beyond not raising, it asserts what its reader promises: that it does not matter
how the bytes were cut, that memory is bounded, that no record is ever found that was not written.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from db.records import Mark
from db.spool import SpoolWriter, replay
from db.spool_files import SpoolFiles
from db.spool_follow import follow
from db.spool_records import segment_path
from listener.admission import IDENTITY
from listener.dataset_scan import CONTRIBUTING_EQUIPMENT_SEQUENCE, MANUFACTURER_MODEL_NAME, DatasetScan
from listener.dimse import COMMAND_BYTES_MAX, DimseReader, StoreRequest, store_response
from listener.negotiate import Negotiator
from listener.pdu import BUFFER_BYTES, PduReader, Pdv, PeerError, ae_titles, request_size

PDU_BYTES_MAX = 512
STORE = "instances"
SEGMENT_BYTES, SEGMENT, EPOCH = 1 << 16, 1, 1


def pdus(data: bytes) -> None:
    """The first byte is the size of the parts that the rest comes in."""
    assert _events(data[1:], max(1, len(data))) == _events(data[1:], 1 + (data[0] if data else 0))


def _events(data: bytes, part: int) -> list[tuple[Any, ...]]:
    reader, found = PduReader(PDU_BYTES_MAX), []
    try:
        for at in range(0, len(data), part):
            reader.feed(data[at : at + part])
            while (event := reader.next_event()) is not None:
                found.append((*event[:3], bytes(event.data)) if isinstance(event, Pdv) else (type(event),))
                if not isinstance(event, Pdv):
                    return found
            reader.release()
            assert len(reader.room()) <= BUFFER_BYTES + len(data)
    except PeerError as error:
        found.append((error.reason, error.abort_reason))
    return found


def requests(data: bytes) -> None:
    """An A-ASSOCIATE-RQ and its answer."""
    try:
        size = request_size(data[:6])
        if size is not None and len(data) >= size:
            ae_titles(data[:size])
            _negotiator().answer(data[:size])
    except PeerError:
        return


@cache
def _negotiator() -> Negotiator:
    return Negotiator(pdu_bytes_max=1 << 17)


def messages(data: bytes) -> None:
    """Values, each of a context, flags, a length and so many bytes."""
    reader, at, taken = DimseReader(), 0, 0
    try:
        while at + 3 <= len(data):
            context_id, flags, size = data[at : at + 3]
            value = data[at + 3 : at + 3 + size]
            at += 3 + size
            taken = taken + len(value) if flags & 1 else 0
            message = reader.take(Pdv(context_id, flags & 1 == 1, flags & 2 == 2, memoryview(value)))
            assert taken <= COMMAND_BYTES_MAX
            if flags & 2:
                taken = 0
            if isinstance(message, StoreRequest):
                assert len(store_response(message, 0xA900, "x" * 100)) < 512
    except PeerError:
        return


def datasets(data: bytes) -> None:
    """The first byte has options, the second the size of the parts that the rest comes in."""
    options, part = (*data[:2], 0, 0)[:2]
    assert _scan(data[2:], options, max(1, len(data))) == _scan(data[2:], options, 1 + part)


def _scan(data: bytes, options: int, part: int) -> tuple[Any, ...]:
    scan = DatasetScan(
        explicit=options & 1 == 1,
        stop_behind=0x00280011 if options & 2 else None,
        wanted=IDENTITY,
        wanted_inside=frozenset([(CONTRIBUTING_EQUIPMENT_SEQUENCE, MANUFACTURER_MODEL_NAME)]),
    )
    for at in range(0, len(data), part):
        scan.feed(memoryview(data)[at : at + part])
    return scan.finish(), scan.found, scan.found_inside


def segments(data: bytes) -> None:
    """Damage to a segment: each of an offset of 2 bytes, a length, and so many bytes."""
    raw, written = _segment()
    damaged, at = bytearray(raw), 0
    while at + 3 <= len(data):
        offset, size = int.from_bytes(data[at : at + 2], "little"), data[at + 2]
        patch = data[at + 3 : at + 3 + size][: len(raw) - offset]
        damaged[offset : offset + len(patch)] = patch
        at += 3 + size
    files = _InMemory(bytes(damaged))
    found = [(r.meta, bytes(r.dataset)) for r in replay(Path(), STORE, files=files)]
    assert found == written[: len(found)], "a record that nobody wrote"
    # Behind a living writer records are not summed, so damage may show in them; their number is bounded.
    until = Mark(STORE, SEGMENT, EPOCH, len(raw))
    followed = list(follow(Path(), STORE, None, until=until, live_since=0, files=files))
    assert sum(item.location.length for item in followed) <= len(raw)
    assert len(followed) >= len(found)


@cache
def _segment() -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A segment with some records, and these; undamaged all of them are found."""
    with (
        tempfile.TemporaryDirectory(prefix="preread-fuzz-") as folder,
        SpoolWriter(Path(folder), store=STORE, segment_bytes=SEGMENT_BYTES, ahead=0, durable=False) as writer,
    ):
        for number in range(6):
            writer.append(b'{"n":%d}' % number, [memoryview(bytes([number]) * 300 * number)], 300 * number)
        writer.commit()
        mark = writer.committed
        written = [(bytes(r.meta), bytes(r.dataset)) for r in replay(Path(folder), STORE)]
        raw = (Path(folder) / STORE / f"{mark.segment:08d}.seg").read_bytes()
    assert (mark.segment, mark.epoch, len(written)) == (SEGMENT, EPOCH, 6)
    files = _InMemory(raw)
    assert [(r.meta, bytes(r.dataset)) for r in replay(Path(), STORE, files=files)] == written
    followed = follow(Path(), STORE, None, until=mark, live_since=0, files=files)
    assert [(r.meta, bytes(r.dataset)) for r in followed] == written
    return raw, written


class _InMemory(SpoolFiles):
    """One segment that is not on the disk."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self._raw = raw

    def list_folder(self, folder: Path) -> list[Path]:
        return [segment_path(folder, SEGMENT)]

    def open(self, path: Path, *, create: bool = False) -> int:
        return 0

    def close(self, fd: int) -> None:
        return

    def read(self, fd: int, size: int, offset: int) -> bytes:
        assert size <= len(self._raw), "memory is taken by a length that was read"
        return self._raw[offset : offset + size]

    def size(self, fd: int) -> int:
        return len(self._raw)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (pdus, requests, messages, datasets, segments)
}


def corpus(target: str) -> Iterator[bytes]:
    """The inputs that are kept: shapes a fuzzer would be long in finding, and what once failed."""
    for path in sorted((Path(__file__).parent / "corpus" / target).iterdir()):
        yield path.read_bytes()
