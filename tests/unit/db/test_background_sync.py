"""Files are synced beside other work, by this machine's kernel; where it refuses, by waiting."""

import os
import select
from pathlib import Path

import pytest

from db import background_sync
from db.background_sync import BackgroundSync
from db.spool import SpoolWriter, replay
from db.spool_files import SpoolFiles


@pytest.fixture
def background() -> BackgroundSync:
    opened = BackgroundSync.open()
    if opened is None:
        pytest.skip("this kernel offers no asynchronous sync (Linux AIO)")
    return opened


def test_sync_rings_the_bell_when_it_ended(background: BackgroundSync, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        assert background.ended() == []
        for _ in range(3):
            file.write(bytes(5000))
            file.flush()
            assert background.begin(file.fileno())
        ended = []
        while len(ended) < 3:
            assert select.select([background.bell], [], [], 30)[0]
            ended += background.ended()
    assert ended == [0, 0, 0]
    assert background.ended() == []
    background.close()


def test_file_that_cannot_be_synced_is_left_to_the_caller(background: BackgroundSync) -> None:
    reading, writing = os.pipe()
    assert not background.begin(writing)
    with pytest.raises(OSError, match="Invalid argument"):
        SpoolFiles().sync(writing)
    os.close(reading)
    os.close(writing)
    assert not background.begin(writing)
    background.close()


def test_unknown_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_sync.platform, "machine", lambda: "pdp11")
    assert BackgroundSync.open() is None


@pytest.mark.parametrize("is_there", [True, False])
def test_commit_that_was_begun_covers_what_was_appended_before(tmp_path: Path, is_there: bool) -> None:
    class Files(SpoolFiles):
        def background(self) -> BackgroundSync | None:
            return super().background() if is_there else None

    with SpoolWriter(tmp_path, store="instances", segment_bytes=1 << 16, files=Files()) as writer:
        assert (writer.commit_bell is not None) == (is_there and BackgroundSync.open() is not None)
        for size in (10, 9000, 12_000, 20_000, 14_000, 30_000):  # over several segments, the last one a run
            writer.append(b"{}", [bytes(size)], size)
        before = writer.committed
        is_under_way = writer.begin_commit()
        if is_under_way:
            assert writer.committed == before
            later = writer.append(b"{}", [b"later"], 5)
            while not writer.finish_commit():
                assert writer.commit_bell is not None
                select.select([writer.commit_bell], [], [], 30)
            assert (writer.committed.epoch, writer.committed.offset) == (later.epoch, later.offset)
        assert len(list(replay(tmp_path, "instances", until=writer.committed))) == 6
        assert writer.finish_commit()
        writer.append(b"{}", [b"last"], 4)
        writer.begin_commit()
    assert len(list(replay(tmp_path, "instances"))) == (8 if is_under_way else 7)
