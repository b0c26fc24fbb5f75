"""Attacks by datasets that are not what they say. One function each."""

import os
import struct
import threading
from contextlib import closing

from dicom_peer import Peer, ct_dataset, new_uid
from listener_process import PATIENCE_SECONDS, seen, state_of
from siege import Siege

UNDEFINED = 0xFFFFFFFF


def refused(siege: Siege, uid: str | bytes, dataset: bytes, status: int) -> None:
    """`Broken` unless the status is this one, nothing is kept, and the association lives on."""
    peer = siege.associated()
    answer = peer.store(uid, dataset)
    siege.check("answer", answer == status, f"status {answer:04X} instead of {status:04X}")
    siege.check("answer", peer.echo() == 0, "the association does not live on")
    kept = siege.node.kept()
    siege.check("answer", (uid if isinstance(uid, str) else uid.decode("latin-1")) not in kept, "it is kept")


def nested_sequences(siege: Siege) -> None:
    """10,000 deep."""
    uid = new_uid()
    start = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, UNDEFINED) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, UNDEFINED
    )
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    refused(siege, uid, ct_dataset(uid, extra=start * 10_000 + end * 10_000), 0xC000)


def other_uid(siege: Siege) -> None:
    """The dataset's SOP Instance UID is not the request's."""
    refused(siege, new_uid(), ct_dataset(new_uid()), 0xA900)


def cut_short(siege: Siege) -> None:
    uid = new_uid()
    refused(siege, uid, ct_dataset(uid)[:-3000], 0xC000)


def noise(siege: Siege) -> None:
    """Random bytes; nothing at all."""
    for dataset in (os.urandom(20_000), b""):
        refused(siege, new_uid(), dataset, 0xC000)


def path_uid(siege: Siege) -> None:
    """UIDs that are paths name no file."""
    for uid in ("../../../../tmp/preread_escape", "/tmp/preread_escape", "1" * 65):
        refused(siege, uid, ct_dataset(uid), 0x0117)
    names = [path.name for path in siege.node.folder.rglob("*")]
    siege.check("answer", not any("escape" in name for name in names), "a UID named a file")


def huge_element(siege: Siege) -> None:
    """A private element that claims 4 GiB: nothing is ever allocated from a length."""
    uid = new_uid()
    lie = struct.pack("<HH2sHL", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFF0) + bytes(1000)
    refused(siege, uid, ct_dataset(uid, extra=lie), 0xC000)


def duplicate_conflict(siege: Siege) -> None:
    """One UID with other bytes, one after the other and at once: all are kept whole, and it is recorded."""
    uid, study = new_uid(), new_uid()
    sent = [ct_dataset(uid, study=study, pixels=os.urandom(8192)) for _ in range(4)]
    peers = [siege.associated() for _ in range(2)]
    for dataset in sent[:2]:
        siege.check("answer", peers[0].store(uid, dataset) == 0, "it was not stored")
    statuses: list[int] = []

    def store(peer: Peer, dataset: bytes) -> None:
        statuses.append(peer.store(uid, dataset))

    threads = [threading.Thread(target=store, args=pair) for pair in zip(peers, sent[2:], strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    siege.check("answer", statuses == [0, 0], f"statuses {statuses}")
    siege.check("answer", sorted(siege.node.kept()[uid]) == sorted(sent), "a version is lost or torn")
    with closing(siege.node.open_database()) as db:
        siege.eventually(
            "answer",
            lambda: bool(state_of(db, study) and seen(db, study).conflicts),
            seconds=PATIENCE_SECONDS,
            reason="no conflict is recorded",
        )
