"""Who follows a live writer sees the records a replay would find, without summing their bytes."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from db.records import Location, Mark
from db.spool import Replayed, SpoolWriter, replay
from db.spool_files import SpoolFiles
from db.spool_follow import HEAD_BYTES, follow
from db.spool_records import INSTANCE, RECORD, RECORD_MAGIC, read_whole, segment_path

STORE = "instances"
SEGMENT_BYTES = 1 << 17


class CountingFiles(SpoolFiles):
    """The disk, and how many bytes were read from it."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """As the disk does."""
        found = super().read(fd, size, offset)
        self.bytes_read += len(found)
        return found


def seen(item: Replayed) -> tuple[bytes, bytes, Location, Mark]:
    return item.meta, bytes(item.dataset), item.location, item.end


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, HEAD_BYTES + 100),
            st.sampled_from([HEAD_BYTES - 60, 30_000, 60_000]),  # the last is a run of its own
            st.just("commit"),
            st.just("restart"),
        ),
        max_size=24,
    ),
    st.integers(0, 30),
)
def test_following_finds_what_a_replay_finds(steps: list[int | str], passed: int) -> None:
    with TemporaryDirectory() as name:
        folder, number = Path(name), 0
        writer = SpoolWriter(folder, store=STORE, segment_bytes=SEGMENT_BYTES, durable=False)
        for step in steps:
            if isinstance(step, int):
                writer.append(b'{"n":%d}' % number, [os.urandom(step)], step)
                number += 1
            elif step == "commit":
                writer.commit()
            else:
                writer.close()
                writer = SpoolWriter(folder, store=STORE, segment_bytes=SEGMENT_BYTES, durable=False)
        with writer:
            until = writer.committed
            wanted = [seen(item) for item in replay(folder, STORE, until=until)]
            assert [
                seen(item) for item in follow(folder, STORE, None, until=until, live_since=writer.live_since)
            ] == wanted
            if wanted:
                mark = wanted[min(passed, len(wanted) - 1)][3]
                later = [
                    seen(item)
                    for item in follow(folder, STORE, mark, until=until, live_since=writer.live_since)
                ]
                assert later == wanted[min(passed, len(wanted) - 1) + 1 :]


def test_heads_are_read_and_pixels_are_not(tmp_path: Path) -> None:
    files = CountingFiles()
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=64 << 20, durable=False) as writer:
        for _ in range(20):
            writer.append(b"{}", [bytes(500_000)], 500_000)
        writer.append(b"{}", [bytes(8_000_000)], 8_000_000)  # a run
        writer.commit()
        found = list(
            follow(tmp_path, STORE, None, until=writer.committed, live_since=writer.live_since, files=files)
        )
    assert [item.location.length for item in found] == [500_000] * 20 + [8_000_000]
    assert files.bytes_read < 30 * HEAD_BYTES


def test_record_torn_at_the_end_of_an_older_segment_is_not_taken(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SEGMENT_BYTES) as writer:
        kept = [writer.append(b'{"n":1}', [bytes(size)], size) for size in (31_000, 31_000, 31_000, 8_000)]
        writer.commit()
        end = writer.committed
    # A crash left the header of a record that goes on with the chain, and not all of its bytes.
    last = kept[-1]
    with segment_path(tmp_path / STORE, last.segment).open("r+b") as file:
        whole = read_whole(SpoolFiles(), file.fileno(), last.offset, last.epoch, SEGMENT_BYTES)
        assert whole is not None
        file.seek(end.offset)
        file.write(RECORD.pack(RECORD_MAGIC, INSTANCE, last.epoch, whole.checksum, 20_000, 7) + b'{"n":2}')
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SEGMENT_BYTES) as writer:
        assert writer.committed == end
        # Too large for what is left of the segment, so that the torn record is never written over.
        later = writer.append(b'{"n":3}', [bytes(31_000)], 31_000)
        writer.commit()
        assert later.epoch > last.epoch
        found = [
            item.location
            for item in follow(tmp_path, STORE, None, until=writer.committed, live_since=writer.live_since)
        ]
    assert found == [*kept, later]


def test_run_that_was_retired_since_is_passed_over(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, store=STORE, segment_bytes=SEGMENT_BYTES) as writer:
        run = writer.append(b'{"n":1}', [bytes(60_000)], 60_000)
        kept = writer.append(b'{"n":2}', [bytes(10)], 10)
        writer.commit()
        segment_path(tmp_path / STORE, run.segment).unlink()
        found = [
            item.location
            for item in follow(tmp_path, STORE, None, until=writer.committed, live_since=writer.live_since)
        ]
    assert found == [kept]
