"""What is committed to the spool is found again, byte for byte, and nothing else is."""

import errno
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import spool_segments
from db.records import Location, Mark
from db.spool import BytesMissing, SpoolFailed, SpoolFull, SpoolLocked, SpoolWriter, read_record, replay
from db.spool_files import SpoolFiles
from db.spool_records import RECORDS_AT, RUN, segment_path, segments_of
from db.spool_segments import SegmentSupply

STORE = "instances"
SMALL = 1 << 16


def fill(writer: SpoolWriter, sizes: Sequence[int], *, tag: str = "r") -> list[tuple[bytes, bytes, Location]]:
    written = []
    for i, size in enumerate(sizes):
        meta, data = f'{{"uid":"{tag}{i}"}}'.encode(), os.urandom(size)
        half = size // 2
        written.append((meta, data, writer.append(meta, [data[:half], memoryview(data)[half:]], size)))
    writer.commit()
    return written


def found(folder: Path, mark: Mark | None = None) -> list[tuple[bytes, bytes, Location]]:
    return [(r.meta, bytes(r.dataset), r.location) for r in replay(folder, STORE, mark)]


def runs_in(folder: Path) -> list[int]:
    headers = segments_of(SpoolFiles(), folder / STORE)
    return [header.number for header in headers.values() if header and header.kind == RUN]


def test_replay_equals_what_was_committed_across_many_roll_overs(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        written = fill(writer, [9000] * 50)
        assert len({location.segment for *_, location in written}) > 5
        assert found(tmp_path) == written
    for meta, data, location in written:
        assert read_record(tmp_path, location) == (meta, data)


def test_the_first_record_after_a_segment_change_carries_the_new_epoch(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        written = fill(writer, [12000] * 12)
    by_segment: dict[int, set[int]] = {}
    for *_, location in written:
        by_segment.setdefault(location.segment, set()).add(location.epoch)
    assert all(len(epochs) == 1 for epochs in by_segment.values())
    assert len({epoch for epochs in by_segment.values() for epoch in epochs}) == len(by_segment)


def test_a_writer_goes_on_behind_the_last_record_after_a_restart(tmp_path: Path) -> None:
    written = []
    for run in range(4):
        with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
            written += fill(writer, [3000, 0, 17], tag=f"run{run}-")
    assert found(tmp_path) == written
    assert len({location.segment for *_, location in written}) == 1


def test_replay_continues_from_a_mark(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        written = fill(writer, [9000] * 20)
        ends = [item.end for item in replay(tmp_path, STORE)]
        for i in range(len(ends)):
            assert found(tmp_path, ends[i]) == written[i + 1 :]
        assert ends[-1] == writer.committed


def test_replay_does_not_read_beyond_the_committed_mark(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        fill(writer, [9000] * 3)
        committed = writer.committed
        writer.append(b"{}", [b"late"], 4)
        assert len(list(replay(tmp_path, STORE, until=committed))) == 3
        assert len(list(replay(tmp_path, STORE))) == 4


def test_large_record_streams_into_a_run_of_its_own(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        before = fill(writer, [100])
        run = writer.open_run(b'{"uid":"big"}')
        fill(writer, [200], tag="between")
        for at in range(0, len(data), 70_000):
            run.write([data[at : at + 70_000]])
        location = run.finish()
        writer.commit()
        after = fill(writer, [300], tag="after")
        whole = writer.append(b'{"uid":"whole"}', [data], len(data))
        writer.commit()
    metas = [meta for meta, *_ in found(tmp_path)]
    assert metas == [before[0][0], b'{"uid":"between0"}', b'{"uid":"big"}', after[0][0], b'{"uid":"whole"}']
    assert read_record(tmp_path, location) == (b'{"uid":"big"}', data)
    assert read_record(tmp_path, whole)[1] == data
    assert [bytes(r.dataset) for r in replay(tmp_path, STORE) if r.location == location] == [data]


def test_discarded_run_leaves_nothing(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        run = writer.open_run(b"{}")
        run.write([bytes(100_000)])
        assert runs_in(tmp_path)
        run.discard()
        writer.commit()
        assert not runs_in(tmp_path)
        assert found(tmp_path) == []


def test_run_without_a_link_is_removed_at_the_next_start(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL)
    kept = writer.append(b'{"uid":"kept"}', [bytes(70_000)], 70_000)
    writer.commit()
    writer.open_run(b'{"uid":"lost"}').write([bytes(70_000)])
    writer.close()
    assert len(runs_in(tmp_path)) == 2
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL):
        assert runs_in(tmp_path) == [kept.segment]
        assert [meta for meta, *_ in found(tmp_path)] == [b'{"uid":"kept"}']
        assert read_record(tmp_path, kept)[1] == bytes(70_000)


def test_a_new_run_does_not_take_the_link_of_a_lost_one(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        lost = writer.append(b'{"uid":"lost"}', [bytes(70_000)], 70_000)
    # What a power cut may do: the link was written back, the run and its name were not.
    segment_path(tmp_path / STORE, lost.segment).unlink()
    epochs = {lost.epoch}
    for _ in range(2):
        with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
            assert found(tmp_path) == []
            new = writer.append(b'{"uid":"new"}', [bytes(70_000)], 70_000)
            assert new.epoch not in epochs
            epochs.add(new.epoch)
        segment_path(tmp_path / STORE, new.segment).unlink()


def test_unsettled_run_that_a_link_names_is_kept(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL)
    kept = writer.append(b'{"uid":"kept"}', [bytes(70_000)], 70_000)
    writer.commit()
    writer.close()
    with segment_path(tmp_path / STORE, kept.segment).open("r+b") as file:
        file.seek(64)
        file.write(bytes(8))
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL):
        assert read_record(tmp_path, kept)[1] == bytes(70_000)


def test_replay_stops_at_damage_and_carries_on_with_the_next_segment(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        written = fill(writer, [9000] * 12)
    first = [item for item in written if item[2].segment == written[0][2].segment]
    damaged = first[2][2]
    with segment_path(tmp_path / STORE, damaged.segment).open("r+b") as file:
        file.seek(damaged.offset + 4000)
        file.write(b"\xff")
    assert found(tmp_path) == first[:2] + written[len(first) :]
    with pytest.raises(BytesMissing):
        read_record(tmp_path, damaged)


def test_what_a_crash_left_behind_a_torn_record_stays_out(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        written = fill(writer, [3000, 3000, 3000, 3000])
    torn = written[1][2]
    with segment_path(tmp_path / STORE, torn.segment).open("r+b") as file:
        file.seek(torn.offset + 100)
        file.write(b"\xff" * 50)
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        # The same length as the torn one: the record behind it is whole, of this epoch and at the next byte.
        again = fill(writer, [3000], tag="r")
        assert again[0][2].offset == torn.offset
        assert found(tmp_path) == [written[0], *again]


def retire_all(folder: Path, *, but: int) -> list[tuple[int, int]]:
    headers = segments_of(SpoolFiles(), folder / STORE)
    return sorted((h.number, h.epoch) for h in headers.values() if h and h.number != but)


def test_recycled_segments_show_nothing_of_their_former_life(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        old = fill(writer, [9000] * 40, tag="old")
    retired = retire_all(tmp_path, but=old[-1][2].segment)
    numbers = {number for number, _ in retired}
    with SpoolWriter(
        tmp_path, store=STORE, segment_bytes=SMALL, take_retired=lambda: retired, ahead=20
    ) as writer:
        new = fill(writer, [9000] * 30, tag="new")
        assert {location.segment for *_, location in new} & numbers
        kept = [item for item in old if (item[2].segment, item[2].epoch) not in retired]
        assert found(tmp_path) == kept + new
    for meta, data, location in new:
        assert read_record(tmp_path, location) == (meta, data)
    with pytest.raises(BytesMissing):
        read_record(tmp_path, old[0][2])


def test_a_segment_is_not_recycled_on_the_word_of_an_outdated_list(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        old = fill(writer, [9000] * 10)
    outdated = [(location.segment, location.epoch + 100) for *_, location in old]
    with SpoolWriter(
        tmp_path, store=STORE, segment_bytes=SMALL, take_retired=lambda: outdated, ahead=5
    ) as writer:
        new = fill(writer, [9000] * 10)
        assert found(tmp_path) == old + new


def test_second_writer_is_refused_with_the_process_that_holds_the_store(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL):
        with pytest.raises(SpoolLocked, match=str(os.getpid())):
            SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL)
        SpoolWriter(tmp_path, store="results-0", segment_bytes=SMALL).close()
    SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL).close()


class TroubledDisk(SpoolFiles):
    """A real disk that can run full, or fail its syncs."""

    def __init__(self) -> None:
        self.free = 1 << 40
        self.sync_error: int | None = None

    def free_bytes(self, folder: Path) -> int:
        return self.free

    def sync(self, fd: int) -> None:
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        super().sync(fd)


def test_failed_sync_is_final_even_when_the_disk_recovers(tmp_path: Path) -> None:
    disk = TroubledDisk()
    writer = SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL, files=disk)
    fill(writer, [100])
    committed = writer.committed
    writer.append(b"{}", [b"x"], 1)
    disk.sync_error = errno.EIO
    with pytest.raises(SpoolFailed):
        writer.commit()
    disk.sync_error = None
    with pytest.raises(SpoolFailed):
        writer.commit()
    with pytest.raises(SpoolFailed):
        writer.append(b"{}", [b"x"], 1)
    assert writer.committed == committed
    writer.close()


def test_below_the_reserve_nothing_is_written_and_it_recovers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.spool.FREE_CHECK_SECONDS", 0.0)
    disk = TroubledDisk()
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL, reserve_bytes=1 << 20, files=disk) as writer:
        first = fill(writer, [100])
        disk.free = 0
        with pytest.raises(SpoolFull):
            writer.append(b"{}", [bytes(1000)], 1000)
        with pytest.raises(SpoolFull):
            writer.open_run(b"{}")
        writer.commit()
        assert found(tmp_path) == first
        disk.free = 1 << 40
        later = fill(writer, [1000], tag="later")
        assert found(tmp_path) == first + later


def test_writer_starts_on_a_full_disk_and_writes_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.spool.FREE_CHECK_SECONDS", 0.0)
    disk = TroubledDisk()
    disk.free = 0
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL, reserve_bytes=1 << 20, files=disk) as writer:
        assert list(replay(tmp_path, STORE, until=writer.committed)) == []
        with pytest.raises(SpoolFull):
            fill(writer, [100])
        disk.free = 1 << 40
        written: list[tuple[bytes, bytes, Location]] = []
        for _ in range(200):
            try:
                written = fill(writer, [100])
                break
            except SpoolFull:
                threading.Event().wait(0.05)
        assert found(tmp_path) == written


def test_disk_full_while_a_segment_is_prepared_is_met_at_roll_over_and_passes(tmp_path: Path) -> None:
    class NoRoom(SpoolFiles):
        full = False

        def fill(self, fd: int, size: int) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().fill(fd, size)

    disk = NoRoom()
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL, files=disk) as writer:
        fill(writer, [9000])
        disk.full = True
        with pytest.raises(SpoolFull):
            fill(writer, [9000] * 40)
        writer.commit()
        held = found(tmp_path)
        disk.full = False
        written: list[tuple[bytes, bytes, Location]] = []
        for _ in range(200):
            try:
                written = fill(writer, [9000] * 10)
                break
            except SpoolFull:
                threading.Event().wait(0.05)
        assert found(tmp_path)[-10:] == written
        assert found(tmp_path)[: len(held)] == held


def test_many_fragments_are_written_whole(tmp_path: Path) -> None:
    data = os.urandom(9000)
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL) as writer:
        writer.append(b"{}", [data[i : i + 3] for i in range(0, 9000, 3)], 9000)
        writer.commit()
    assert found(tmp_path)[0][1] == data


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 200))
def test_random_bytes_in_place_of_records_are_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, skip: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with SpoolWriter(folder, store=STORE, segment_bytes=1 << 14) as writer:
        written = fill(writer, [100, 100])
    with segment_path(folder / STORE, written[0][2].segment).open("r+b") as file:
        file.seek(RECORDS_AT + 170 + skip)
        file.write(noise)
    assert found(folder)[:1] in ([], written[:1])
    shutil.rmtree(folder)


class CountingDisk(SpoolFiles):
    """A real disk that tells how many segments were written anew, and when the last was wanted."""

    def __init__(self, free_bytes: int | None = None) -> None:
        self.made, self.changed, self._free_bytes = 0, threading.Condition(), free_bytes

    def fill(self, fd: int, size: int) -> None:
        super().fill(fd, size)
        with self.changed:
            self.made += 1
            self.changed.notify_all()

    def free_bytes(self, folder: Path) -> int:
        return super().free_bytes(folder) if self._free_bytes is None else self._free_bytes


def test_a_store_at_rest_lays_in_a_stock_and_receives_it_without_making_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_segments, "REST_SECONDS", 0.2)
    monkeypatch.setattr(spool_segments, "PACE_SECONDS", 0.0)
    disk = CountingDisk()
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL, ahead=1, stock=5, files=disk) as writer:
        with disk.changed:
            assert disk.changed.wait_for(lambda: disk.made == 6, 30)  # the one in use, and the stock
        monkeypatch.setattr(spool_segments, "REST_SECONDS", 3600.0)
        written = fill(writer, [9000] * 6 * ((SMALL - RECORDS_AT) // 9100))
        assert len({location.segment for *_, location in written}) >= 5
        assert disk.made <= 7
        assert found(tmp_path) == written


def test_no_stock_is_laid_in_on_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_segments, "REST_SECONDS", 0.0)
    disk = CountingDisk(free_bytes=9 * SMALL)
    looked = threading.Event()
    monkeypatch.setattr(SegmentSupply, "_pause", lambda *_: looked.set() or threading.Event().wait(0.05))
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SMALL, ahead=1, stock=5, files=disk):
        with disk.changed:
            assert disk.changed.wait_for(lambda: disk.made == 2, 30)  # the one in use, and the one ahead
        for _ in range(2):
            looked.clear()
            assert looked.wait(30)
        assert disk.made == 2
