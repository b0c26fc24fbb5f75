"""The bytes that rows lead to are the bytes that were sent: of very many instances, and of a very large one.

`--long` sends 100,000 instances and one of 2 GiB; otherwise it is 2000 and 300 MB.
"""

import hashlib
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from dicom_peer import Peer, ct_dataset, element, new_uid
from listener_process import ListenerProcess, wait_until
from strict_sender import StrictSender

from db.engine import Database
from db.instances import ByteStore, conflicts_of, instance_by_uid, instances_of
from db.records import InstanceRecord
from db.worklist import studies

SENDERS = 8
INSTANCES, INSTANCES_LONG = 2000, 100_000
LARGE_BYTES, LARGE_BYTES_LONG = 300_000_000, 2 << 30
PIECE_BYTES = 1 << 20
RESIDENT_MIB_MAX, GROWTH_MIB_MAX = 200, 32
ROW_SECONDS = 600.0
SEED = 20_260
PIXEL_BYTES = ((0, 2000), (2000, 8000), (8000, 40_000))
STREAMED_SHARE, STREAMED_BYTES = 0.005, (300_000, 600_000)  # larger than what goes into a segment of 1 MiB


class Sender(threading.Thread):
    """One association that sends a study and remembers a digest of each instance."""

    def __init__(self, node: ListenerProcess, number: int, count: int) -> None:
        super().__init__()
        self._node, self._count, self._chance = node, count, random.Random(SEED + number)
        self.study, self.sent = new_uid(), dict[str, str]()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with Peer(self._node.port, timeout=120).associate() as peer:
                sender = StrictSender(peer)
                for _ in range(self._count):
                    uid = new_uid()
                    dataset = ct_dataset(uid, study=self.study, pixels=self._pixels())
                    sender.store(uid, [dataset])
                    self.sent[uid] = hashlib.sha256(dataset).hexdigest()
                peer.release()
        except BaseException as failure:  # noqa: BLE001 the test raises it
            self.failure = failure

    def _pixels(self) -> bytes:
        is_streamed = self._chance.random() < STREAMED_SHARE
        size = self._chance.randint(*(STREAMED_BYTES if is_streamed else self._chance.choice(PIXEL_BYTES)))
        return self._chance.randbytes(size & ~1)


@pytest.mark.timeout(3600)
def test_what_rows_lead_to_is_what_concurrent_senders_sent(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    count = INSTANCES_LONG if request.config.getoption("--long") else INSTANCES
    node = ListenerProcess(tmp_path, listener={"quiet_seconds": 3600})
    with node.start(), closing(node.open_database()) as db:
        began = time.monotonic()
        senders = [Sender(node, number, count // SENDERS) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
            if sender.failure is not None:
                raise sender.failure
        answered = time.monotonic() - began
        sent = {sender.study: sender.sent for sender in senders}
        wait_until(lambda: recorded(db) == count, seconds=ROW_SECONDS, what="all rows")
        print(f"{count} instances answered in {answered:.1f} s, rows after {time.monotonic() - began:.1f} s")
        check(node, db, sent)
        print(f"all read back after {time.monotonic() - began:.1f} s")
        assert node.terminate() == 0
    with node.start(), closing(node.open_database()) as db:
        check(node, db, sent)
        assert node.terminate() == 0


def recorded(db: Database) -> int:
    return sum(row.study.instances for row in studies(db, limit=SENDERS))


def summed_rows(look: Callable[[], list[InstanceRecord]]) -> list[InstanceRecord]:
    """What is found, once it is there and every row has its digest."""
    wait_until(
        lambda: (rows := look()) and all(row.sha256 for row in rows), seconds=ROW_SECONDS, what="digests"
    )
    return look()


def check(node: ListenerProcess, db: Database, sent: dict[str, dict[str, str]]) -> None:
    """Every row leads to the bytes that were sent under its UID, and there is one for each."""
    store = ByteStore(node.state_folder / "spool")
    views = {row.study.study_uid: row.study for row in studies(db, limit=2 * SENDERS)}
    assert views.keys() == sent.keys()
    for study_uid, digests in sent.items():
        found = summed_rows(partial(instances_of, db, views[study_uid].id))
        assert len(found) == len(digests)
        assert {item.sop_uid: item.sha256 for item in found} == digests
        assert not conflicts_of(db, views[study_uid].id)
        for item in found:
            assert hashlib.sha256(store.read(item.location)).hexdigest() == digests[item.sop_uid], (
                item.sop_uid
            )


@pytest.mark.timeout(3600)
def test_large_instance_streams_to_its_file_byte_for_byte_and_memory_stays_flat(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    size = LARGE_BYTES_LONG if request.config.getoption("--long") else LARGE_BYTES
    uid, digest = new_uid(), hashlib.sha256()
    node = ListenerProcess(tmp_path)
    with node.start(), closing(node.open_database()) as db:
        before = node.peak_memory_mib()
        with Peer(node.port, timeout=300).associate() as peer:
            began = time.monotonic()
            StrictSender(peer).store(uid, summed(generated(uid, size), digest))
            seconds = time.monotonic() - began
            assert peer.echo() == 0
        (row,) = summed_rows(partial(instance_by_uid, db, uid))
        assert row.sha256 == digest.hexdigest()
        peak = node.peak_memory_mib()
        print(f"{row.location.length} bytes in {seconds:.1f} s; MiB at the start {before}, at most {peak}")
        assert max(peak.values()) <= RESIDENT_MIB_MAX
        assert peak["receiver"] - before["receiver"] <= GROWTH_MIB_MAX
        assert node.terminate() == 0
    with node.start():
        (item,) = node.replayed()
        kept = hashlib.sha256()
        for chunk in item.chunks():
            kept.update(chunk)
        assert kept.hexdigest() == digest.hexdigest()
        assert item.location == row.location
        assert node.terminate() == 0


def generated(uid: str, pixel_bytes: int) -> Iterator[bytes]:
    """A dataset that is never in memory as a whole; no two pieces of it are the same."""
    head, empty = ct_dataset(uid, pixels=b""), element(0x7FE0, 0x0010, b"OW", b"")
    assert head.endswith(empty)
    yield head.removesuffix(empty) + empty[:-4] + struct.pack("<L", pixel_bytes)
    noise = random.Random(SEED).randbytes(PIECE_BYTES)
    for at in range(0, pixel_bytes, PIECE_BYTES):
        yield (struct.pack("<Q", at) + noise[8:])[: pixel_bytes - at]


def summed(pieces: Iterator[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece
