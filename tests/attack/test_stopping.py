"""SIGTERM under load: what was acknowledged is there, and the listener is gone in time, with status 0."""

import threading
from pathlib import Path

from dicom_peer import (
    STORE_CONTEXT,
    Peer,
    associate_request,
    ct_dataset,
    fragments,
    item,
    new_uid,
    store_command,
    store_message,
)
from listener_process import ListenerProcess, wait_until
from siege import SLACK_SECONDS

from listener.service import DRAIN_SECONDS, RECORDER_SECONDS, UNUSUAL_SECONDS

STOP_SECONDS_MAX = 10.0
UNUSUAL = associate_request(user_items=item(0x53, b"\0\1\0\1"))


def test_longest_stop_stays_below_ten_seconds() -> None:
    assert DRAIN_SECONDS + UNUSUAL_SECONDS + RECORDER_SECONDS < STOP_SECONDS_MAX


def test_peers_that_are_held_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    with ListenerProcess(tmp_path) as node:
        silent = [Peer(node.port) for _ in range(5)]
        idle = [Peer(node.port).associate() for _ in range(5)]
        halves = [Peer(node.port).associate() for _ in range(5)]
        for peer in halves:
            peer.send(fragments(STORE_CONTEXT, store_command(b"1.2.3"), command=True)[:40])
        unusual = Peer(node.port).associate(UNUSUAL)
        assert unusual.echo() == 0
        assert node.terminate(seconds=STOP_SECONDS_MAX + SLACK_SECONDS) == 0
        for peer in (*silent, *idle, *halves, unusual):
            peer.close()


def test_instance_under_way_is_finished_and_all_that_was_acknowledged_is_kept(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    with ListenerProcess(tmp_path) as node:

        def send_on() -> None:
            try:
                with Peer(node.port).associate() as peer:
                    while True:
                        uid = new_uid()
                        assert peer.store(uid, ct_dataset(uid)) == 0
                        acknowledged.append(uid)
            except OSError:
                return

        senders = [threading.Thread(target=send_on) for _ in range(3)]
        last = new_uid()
        message = store_message(last, ct_dataset(last, pixels=bytes(1 << 20)))
        with Peer(node.port).associate() as peer:
            peer.send(message[: 1 << 19])
            for sender in senders:
                sender.start()
            wait_until(lambda: len(acknowledged) > 20)
            assert node.process is not None
            node.process.terminate()
            wait_until(lambda: not any(sender.is_alive() for sender in senders))
            assert peer.send(message[1 << 19 :]).status() == 0
            acknowledged.append(last)
        assert node.wait(seconds=STOP_SECONDS_MAX + SLACK_SECONDS) == 0
        assert set(acknowledged) <= node.kept().keys()
