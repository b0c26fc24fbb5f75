"""Kill the listener at every named point: what was acknowledged is found, byte for byte, and rows follow."""

import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dicom_peer import Peer, ct_dataset, new_uid, store_message
from listener_process import ListenerProcess, stored_uids, wait_until

from db.intake import read_mark
from db.spool import SpoolWriter, replay

KILLED = 137
INSTANCES, SENDERS = 40, 2
PIXEL_BYTES = 60_000  # 40 of them fill more than two segments of 1 MiB


def send(port: int, datasets: dict[str, bytes]) -> set[str]:
    """Store until done or cut off; the UIDs that were acknowledged."""
    acknowledged: set[str] = set()

    def work(uids: list[str]) -> None:
        try:
            with Peer(port, timeout=30).associate() as peer:
                for uid in uids:
                    assert peer.store(uid, datasets[uid]) == 0
                    acknowledged.add(uid)
        except OSError:
            return

    shares = [list(datasets)[n::SENDERS] for n in range(SENDERS)]
    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return acknowledged


def images() -> dict[str, bytes]:
    study = new_uid()
    return {
        uid: ct_dataset(uid, study=study, pixels=bytes(PIXEL_BYTES))
        for uid in (new_uid() for _ in range(INSTANCES))
    }


@dataclass
class History:
    """What was sent and what was acknowledged over several lives of one node."""

    sent: dict[str, bytes] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)

    def send_more(self, node: ListenerProcess) -> None:
        more = images()
        self.sent |= more
        self.acknowledged |= send(node.port, more)

    def is_kept(self, node: ListenerProcess, after: str) -> None:
        kept = node.kept()
        assert self.acknowledged <= set(kept), after
        assert all(found == [self.sent[uid]] for uid, found in kept.items()), after


def survives(node: ListenerProcess, history: History) -> None:
    """A life without a kill point: all rows are there, each once, and receiving goes on."""
    node.kill_point = None
    with node.start(), closing(node.open_database()) as db:
        history.is_kept(node, "all")
        wait_until(lambda: sorted(stored_uids(db)) == sorted(node.kept()))
        before = len(history.acknowledged)
        history.send_more(node)
        assert len(history.acknowledged) == before + INSTANCES
        wait_until(lambda: sorted(stored_uids(db)) == sorted(node.kept()))
        history.is_kept(node, "all")
        assert node.terminate() == 0


RECEIVER_POINTS = ("K1:7", "K2:20", "K3:1", "K3:12", "K4:1", "K4:12", "K5:1", "K5:15", "K9:1", "K9:2")
RECORDER_POINTS = ("K6:1", "K7:1", "K8:1", "K15:1", "K15:25")


def test_receiver_killed_between_any_two_writes_loses_nothing_acknowledged(
    tmp_path: Path, database_url: str
) -> None:
    node, history = ListenerProcess(tmp_path, database_url), History()
    for point in RECEIVER_POINTS:
        node.kill_point = point
        node.launch()
        with node:
            if node.port:  # 0: it was killed before it was ready, as K9 may
                history.send_more(node)
            assert node.wait() == KILLED, point
        history.is_kept(node, point)
    assert len(history.acknowledged) < INSTANCES * len(RECEIVER_POINTS)
    survives(node, history)


def test_recorder_killed_at_any_point_loses_and_doubles_nothing(tmp_path: Path, database_url: str) -> None:
    node, history = ListenerProcess(tmp_path, database_url), History()
    for number, point in enumerate(RECORDER_POINTS):
        node.kill_point = point
        with node.start():
            history.send_more(node)
            assert len(history.acknowledged) == INSTANCES * (number + 1), point
            wait_until(lambda n=number: node.log.count(f"status={KILLED}") > n, what=point)
            node.kill()
    survives(node, history)


def test_everything_killed_while_a_large_instance_streams_leaves_no_trace_of_it(
    tmp_path: Path, database_url: str
) -> None:
    node = ListenerProcess(tmp_path, database_url)
    datasets = images()
    with node.start():
        acknowledged = send(node.port, datasets)
        with Peer(node.port).associate() as peer:
            uid = new_uid()
            peer.send(store_message(uid, ct_dataset(uid, pixels=bytes(6 << 20)))[: 3 << 20])
            wait_until(lambda: runs_in(node))
            node.kill()
    with node.start():
        assert not runs_in(node)
        assert set(node.kept()) == acknowledged == set(datasets)
        assert node.terminate() == 0


def runs_in(node: ListenerProcess) -> list[Path]:
    found = []
    for path in node.state_folder.rglob("*.seg"):
        with path.open("rb") as file:
            if file.read(12)[10:] == b"\x02\x00":
                found.append(path)
    return found


@pytest.mark.parametrize("point", ["K10:1", "K10:2"])
def test_recycling_killed_between_its_steps_loses_nothing_that_rows_need(tmp_path: Path, point: str) -> None:
    with SpoolWriter(tmp_path, store="instances", segment_bytes=1 << 16) as writer:
        locations = [writer.append(b"{}", [bytes([n]) * 9000], 9000) for n in range(30)]
        writer.commit()
        kept = [location for location in locations if location.segment == writer.committed.segment]
    retired = sorted({(location.segment, location.epoch) for location in locations if location not in kept})
    code = (
        "import sys, time; from pathlib import Path; from db.spool import SpoolWriter\n"
        f"w = SpoolWriter(Path({str(tmp_path)!r}), store='instances', segment_bytes=1 << 16,"
        f" take_retired=lambda: {retired}, ahead=20)\n"
        "time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PREREAD_KILL_POINT": point, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert done.returncode == KILLED
    with SpoolWriter(
        tmp_path, store="instances", segment_bytes=1 << 16, take_retired=lambda: retired, ahead=20
    ) as writer:
        new = [writer.append(b"new", [bytes(9000)], 9000) for _ in range(30)]
        writer.commit()
        found = [item.location for item in replay(tmp_path, "instances")]
        assert [location for location in found if location in (*kept, *new)] == [*kept, *new]


def test_mark_is_at_the_end_of_the_log_once_everything_is_recorded(tmp_path: Path, database_url: str) -> None:
    node = ListenerProcess(tmp_path, database_url)
    with node.start(), closing(node.open_database()) as db:
        send(node.port, images())
        end = node.replayed()[-1].end
        wait_until(lambda: read_mark(db, "instances") == end)
