"""Other processes of this node hand instances over, and hear what became of each after its commit."""

import os
import socket
import threading
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from dicom_peer import CT, EXPLICIT, ct_dataset, new_uid
from loop_thread import LoopThread, loop_thread

from config.errors import PrereadError
from config.identity import UPLOAD_AE
from config.settings import Settings
from listener.admission import Refusal
from listener.handover import SOCKET_NAME, hand_over, may_send, socket_address, tell
from listener.intake import Announced, Sender

PEER = Sender("SCANNER", "PREREAD", "127.0.0.1")
PAGE = Sender(UPLOAD_AE, "PREREAD", "127.0.0.1")
STRANGER = Sender("STRANGER", "PREREAD", "127.0.0.1")


def settings(folder: Path, *, upload: bool = True) -> Settings:
    return Settings.model_validate(
        {
            "state_folder": str(folder / "state"),
            "peers": [{"name": "scanner", "ae_title": "SCANNER", "addresses": ["127.0.0.1"]}],
            "web": {"upload": upload},
        }
    )


def give(node: LoopThread, dataset: bytes, uid: str, *, sender: Sender = PEER, size: int | None = None):
    announced = Announced(CT.encode(), uid.encode(), CT, EXPLICIT)
    with TemporaryFile() as file:
        file.write(dataset)
        file.flush()
        size = len(dataset) if size is None else size
        return hand_over(node.settings.state_folder, sender, announced, descriptor=file.fileno(), size=size)


def test_what_is_handed_over_is_kept_as_it_is_with_its_sender(tmp_path: Path) -> None:
    with loop_thread(settings(tmp_path)) as node:
        uid = new_uid()
        dataset = ct_dataset(uid, pixels=os.urandom(9 << 20))
        assert give(node, dataset, uid) is None
        assert node.kept() == {uid: dataset}
        assert node.senders() == {"SCANNER"}


def test_many_at_a_time_are_all_answered(tmp_path: Path) -> None:
    answers: list[Refusal | None] = []
    uids = [new_uid() for _ in range(48)]
    with loop_thread(settings(tmp_path)) as node:
        threads = [
            threading.Thread(target=lambda uid=uid: answers.append(give(node, ct_dataset(uid), uid)))
            for uid in uids
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [None] * 48
        assert node.kept().keys() == set(uids)


def test_the_intake_decides_and_a_refusal_is_seen(tmp_path: Path) -> None:
    with loop_thread(settings(tmp_path)) as node:
        uid = new_uid()
        cut = give(node, ct_dataset(uid)[:-3], uid)
        other = give(node, ct_dataset(new_uid()), uid)
        stranger = give(node, ct_dataset(uid), uid, sender=STRANGER)
        short = give(node, ct_dataset(uid), uid, size=1 << 20)
        assert [r and r.status for r in (cut, other, stranger, short)] == [0xC000, 0xA900, 0x0124, 0xA700]
        assert node.kept() == {}
        assert len(node.refused) == 4


def test_the_page_may_send_only_where_the_settings_say_so(tmp_path: Path) -> None:
    uid = new_uid()
    with loop_thread(settings(tmp_path / "on")) as node:
        assert may_send(node.settings.state_folder, PAGE) is None
        assert give(node, ct_dataset(uid), uid, sender=PAGE) is None
    with loop_thread(settings(tmp_path / "off", upload=False)) as node:
        refusal = may_send(node.settings.state_folder, PAGE)
        assert refusal is not None
        assert refusal.status == 0x0124
        assert give(node, ct_dataset(uid), uid, sender=PAGE) is not None


def test_who_may_send_is_asked_of_the_listener(tmp_path: Path) -> None:
    with loop_thread(settings(tmp_path)) as node:
        folder = node.settings.state_folder
        assert may_send(folder, PEER) is None
        for sender in (STRANGER, Sender("SCANNER", "PREREAD", "10.1.1.1")):
            refusal = may_send(folder, sender)
            assert refusal is not None
            assert refusal.status == 0x0124
        tell(folder, STRANGER, "no token", "make one")
        assert [(r.calling_ae, r.reason, r.remedy) for r in node.refused] == [
            ("STRANGER", "no token", "make one")
        ]


def test_silence_and_nonsense_at_the_door_disturb_nobody(tmp_path: Path) -> None:
    with loop_thread(settings(tmp_path)) as node:
        folder = node.settings.state_folder
        callers = []
        for message in (None, b"{", b"[]", b'{"ask": "x"}', b'{"ask": "store"}'):
            caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with socket_address(folder) as address:
                caller.connect(address)
            if message is not None:
                caller.send(message)
            callers.append(caller)
        uid = new_uid()
        assert give(node, ct_dataset(uid), uid) is None
        for caller in callers:
            caller.close()


def test_without_a_listener_the_sender_is_told_to_come_again(tmp_path: Path) -> None:
    refusal = may_send(tmp_path, PEER)
    assert refusal is not None
    assert refusal.status == 0xA700


def test_the_door_is_for_this_user_alone_and_gone_afterwards(tmp_path: Path) -> None:
    long = tmp_path / ("a folder with a very long name " * 4)
    with loop_thread(settings(long)) as node:
        path = node.settings.state_folder / SOCKET_NAME
        assert path.stat().st_mode & 0o777 == 0o600
        assert may_send(node.settings.state_folder, PEER) is None
    assert not path.exists()


def test_a_socket_that_a_killed_listener_left_is_no_obstacle(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    chosen.state_folder.mkdir(parents=True)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left,
        socket_address(chosen.state_folder) as address,
    ):
        left.bind(address)
    with loop_thread(chosen) as node:
        assert may_send(node.settings.state_folder, PEER) is None


def test_a_folder_that_cannot_hold_a_socket_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    (chosen.state_folder / SOCKET_NAME / "x").mkdir(parents=True)
    with pytest.raises(PrereadError, match="uploads and STOW-RS"), loop_thread(chosen):
        pass
