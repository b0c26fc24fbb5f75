"""The listener as a service: it drains, goes on without recorder or database, says why it cannot start."""

import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from dicom_peer import STORE_CONTEXT, Peer, ct_dataset, fragments, new_uid, store_command, store_message
from listener_process import ListenerProcess, seen, state_of, stored_uids, wait_until
from sqlalchemy import make_url

from db.engine import Database
from db.spool import SpoolWriter


def test_sigterm_finishes_the_message_under_way_and_exits_0(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as node:
        assert node.process is not None
        uid = new_uid()
        message = store_message(uid, ct_dataset(uid, pixels=bytes(100_000)))
        with Peer(node.port).associate() as sending, Peer(node.port).associate() as idle:
            sending.send(message[:50_000])
            node.process.send_signal(signal.SIGTERM)
            assert idle.receive()[:1] == b"\x07"
            with pytest.raises(OSError):  # noqa: PT011 refused or reset, as the kernel likes
                Peer(node.port, timeout=2).associate()
            assert sending.send(message[50_000:]).status() == 0
        assert node.wait() == 0
        assert uid in node.kept()


def test_sigterm_with_peers_that_hang_exits_0_within_its_time(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as node:
        half_made = [Peer(node.port) for _ in range(5)]
        stopped = [Peer(node.port).associate() for _ in range(5)]
        for peer in stopped:
            peer.send(fragments(STORE_CONTEXT, store_command(b"1.2.3"), command=True)[:40])
        assert node.terminate(seconds=30) == 0
        for peer in (*half_made, *stopped):
            peer.close()


def test_port_that_is_taken_is_named_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = ListenerProcess(tmp_path, listener={"port": taken.getsockname()[1]})
        node.launch()
        assert node.port == 0
        assert node.wait() != 0
    assert "listener.port" in node.log


def test_second_listener_on_one_spool_is_refused_with_its_remedy(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "state" / "spool", store="instances", segment_bytes=1 << 20):
        node = ListenerProcess(tmp_path)
        node.launch()
        assert node.port == 0
        assert node.wait() != 0
    assert "writes to this store already" in node.log


def recorder_pid(node: ListenerProcess) -> int:
    assert node.process is not None
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children")
    return int(wait_until(lambda: children.read_text().split())[0])


def test_receiving_goes_on_while_the_recorder_is_dead_and_rows_follow(
    tmp_path: Path, database_url: str
) -> None:
    with ListenerProcess(tmp_path, database_url) as node, closing(node.open_database()) as db:
        subprocess.run(["kill", "-9", str(recorder_pid(node))], check=True)
        uids = [new_uid() for _ in range(20)]
        with Peer(node.port).associate() as peer:
            assert [peer.store(uid, ct_dataset(uid)) for uid in uids] == [0] * 20
        wait_until(lambda: sorted(stored_uids(db)) == sorted(uids))


def test_receiving_goes_on_while_the_database_is_locked_and_rows_follow(
    tmp_path: Path, sqlite_url: str
) -> None:
    with ListenerProcess(tmp_path, sqlite_url) as node, closing(node.open_database()) as db:
        first, uids, study = new_uid(), [new_uid() for _ in range(20)], new_uid()
        with Peer(node.port).associate() as peer:
            assert peer.store(first, ct_dataset(first, study=study)) == 0
            wait_until(lambda: first in stored_uids(db))
            with db.write():
                assert [peer.store(uid, ct_dataset(uid, study=study)) for uid in uids] == [0] * 20
                assert stored_uids(db) == [first]
            peer.release()
        wait_until(lambda: sorted(stored_uids(db)) == sorted([first, *uids]))
        wait_until(lambda: state_of(db, study) == "whole")
        assert seen(db, study).study.instances == 21


class Cable:
    """A TCP way to a Unix socket that can be cut and mended, on one port."""

    def __init__(self, path: str) -> None:
        self._path, self._port = path, 0
        self._open: list[socket.socket] = []
        self.mend()

    @property
    def port(self) -> int:
        return self._port

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        # A thread blocked in accept keeps the socket alive; shutdown ends its wait.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._path)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_receiving_goes_on_while_postgres_is_away_and_rows_follow(tmp_path: Path, postgres_url: str) -> None:
    url = make_url(postgres_url)
    cable = Cable(f"{url.query['host']}/.s.PGSQL.5432")
    by_cable = f"postgresql+psycopg://preread@127.0.0.1:{cable.port}/{url.database}"
    with ListenerProcess(tmp_path, by_cable) as node, closing(Database.open(postgres_url)) as db:
        first, uids = new_uid(), [new_uid() for _ in range(20)]
        with Peer(node.port).associate() as peer:
            assert peer.store(first, ct_dataset(first)) == 0
            wait_until(lambda: stored_uids(db) == [first])
            cable.cut()
            assert [peer.store(uid, ct_dataset(uid)) for uid in uids] == [0] * 20
            wait_until(lambda: "database away" in node.log)
            assert peer.echo() == 0
        cable.mend()
        wait_until(lambda: sorted(stored_uids(db)) == sorted([first, *uids]))
    cable.cut()


def test_recorder_ends_with_its_receiver(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as node:
        pid = recorder_pid(node)
        node.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_database_of_another_spool_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as node, closing(node.open_database()) as db:
        uids = [new_uid() for _ in range(40)]
        with Peer(node.port).associate() as peer:
            assert {peer.store(uid, ct_dataset(uid, pixels=bytes(60_000))) for uid in uids} == {0}
        wait_until(lambda: len(stored_uids(db)) == 40)
        assert node.terminate() == 0
    for path in (node.state_folder / "spool" / "instances").iterdir():
        path.unlink()
    with node.start():
        wait_until(lambda: "the database knows a newer spool" in node.log)
        uid = new_uid()
        with Peer(node.port).associate() as peer:
            assert peer.store(uid, ct_dataset(uid)) == 0


def test_many_peers_at_once_lose_nothing(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as node:
        sent: dict[str, bytes] = {}

        def work() -> None:
            with Peer(node.port, timeout=30).associate() as peer:
                for _ in range(30):
                    uid = new_uid()
                    sent[uid] = ct_dataset(uid, pixels=uid.encode() * 200)
                    assert peer.store(uid, sent[uid]) == 0
                peer.release()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert node.terminate() == 0
        assert node.kept() == {uid: [dataset] for uid, dataset in sent.items()}
        assert len(sent) == 240


def test_listener_knows_no_database_and_no_image_code(tmp_path: Path) -> None:
    code = "import sys, listener.service; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sqlalchemy", "torch", "highdicom"} & set(loaded)
