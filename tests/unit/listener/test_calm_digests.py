"""Digests are made in calm moments, in bounded pieces, and survive a database that is away."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_peer import CT, EXPLICIT, ct_dataset, new_uid

from db.digests import without_digest
from db.engine import Database, DatabaseUnavailable
from db.instances import instance_by_uid
from db.intake import record_batch
from db.spool import SpoolWriter
from db.spool_follow import follow
from db.spool_records import CHUNK_BYTES, segment_path
from listener import calm_digests
from listener.attributes import received_instance
from listener.calm_digests import CalmDigests

STORE = "instances"
SIZES = (1000, 300_000, 20_000, 0, 700_000)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path / 'preread.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def stored(tmp_path: Path, db: Database) -> dict[str, str]:
    """Instances in spool and tables; digests of what was stored, by UID."""
    digests = {}
    with SpoolWriter(tmp_path, store=STORE) as writer:
        for size in SIZES:
            uid = new_uid()
            dataset = ct_dataset(uid, pixels=os.urandom(size))
            said = {"calling": "A", "called": "B", "address": "::1", "transfer_syntax": EXPLICIT}
            said |= {"sop_class": CT, "sop_instance": uid}
            writer.append(json.dumps({**said, "received_at": 1.0}).encode(), [dataset], len(dataset))
            digests[uid] = hashlib.sha256(dataset).hexdigest()
        writer.commit()
        found = follow(tmp_path, STORE, None, until=writer.committed, live_since=0)
        items = [
            received_instance(item.meta, item.chunks, location=item.location, uid_root=None) for item in found
        ]
    record_batch(db, items, None)
    return digests


def digests_in(db: Database, uids: dict[str, str]) -> dict[str, str]:
    return {uid: instance_by_uid(db, uid)[0].sha256 for uid in uids}


def test_every_row_gets_the_digest_of_its_bytes(tmp_path: Path, db: Database, stored: dict[str, str]) -> None:
    assert set(digests_in(db, stored).values()) == {""}
    calm = CalmDigests(tmp_path, db)
    calm.step()
    assert digests_in(db, stored) == stored
    assert not calm.may_be_wanted


def test_one_step_reads_no_more_than_its_share(
    tmp_path: Path, db: Database, stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calm_digests, "STEP_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(calm_digests, "ROWS", 2)
    calm, steps = CalmDigests(tmp_path, db), 0
    while calm.may_be_wanted:
        calm.step()
        steps += 1
    assert steps > sum(SIZES) // (2 * CHUNK_BYTES)
    assert digests_in(db, stored) == stored


def test_bytes_that_are_gone_keep_nobody_else_from_a_digest(
    tmp_path: Path, db: Database, stored: dict[str, str]
) -> None:
    gone = next(iter(stored))
    location = instance_by_uid(db, gone)[0].location
    with segment_path(tmp_path / STORE, location.segment).open("r+b") as file:
        file.seek(location.offset)
        file.write(bytes(8))
    calm = CalmDigests(tmp_path, db)
    calm.step()
    assert digests_in(db, stored) == {**stored, gone: ""}
    assert not calm.may_be_wanted


def test_digests_made_while_the_database_was_away_are_written_when_it_is_back(
    tmp_path: Path, db: Database, stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = CalmDigests(tmp_path, db)
    keep = calm_digests.keep_digests

    def away(*_: object) -> None:
        raise DatabaseUnavailable("away", where="test", remedy="wait")

    monkeypatch.setattr(calm_digests, "keep_digests", away)
    with pytest.raises(DatabaseUnavailable):
        calm.step()
    monkeypatch.setattr(calm_digests, "keep_digests", keep)
    calm.step()
    assert digests_in(db, stored) == stored
    assert without_digest(db, after_id=0, limit=9) == []
