"""Segments that no row needs any more come back to the listener and are written again; the rest stays."""

from contextlib import closing
from pathlib import Path

from dicom_peer import Peer, ct_dataset, new_uid
from listener_process import ListenerProcess, state_of, stored_uids, wait_until

from db.engine import Database
from db.instances import ByteStore, instances_of
from db.jobs import claim_next, finish_plan
from db.retention import forget_study
from db.segments import retire_segments, segments_in_use
from db.worklist import study

STUDIES_MAX = 10  # of more than two segments each: twice what may be prepared ahead


def send_study(port: int, *, images: int = 40) -> tuple[str, dict[str, bytes]]:
    """A study of a little more than two segments of 1 MiB."""
    study_uid = new_uid()
    sent = {}
    with Peer(port, timeout=30).associate() as peer:
        for _ in range(images):
            uid = new_uid()
            sent[uid] = ct_dataset(uid, study=study_uid, pixels=bytes(60_000))
            assert peer.store(uid, sent[uid]) == 0
        peer.release()
    return study_uid, sent


def finish(db: Database, study_uid: str) -> int:
    """End the study as not analysed, as a plan that finds no model does; its id."""
    wait_until(lambda: state_of(db, study_uid) == "whole")
    claim = claim_next(db, worker="test", kinds=("plan",), lease_seconds=60)
    assert claim is not None
    assert claim.study_uid == study_uid
    assert finish_plan(db, claim, selections=(), analyse=(), reason_code="NO-MODEL", sentence="no model")
    return claim.study_id


def test_segments_of_forgotten_studies_are_written_again_and_others_stay(
    tmp_path: Path, database_url: str
) -> None:
    node = ListenerProcess(tmp_path, database_url)
    with node.start(), closing(node.open_database()) as db:
        forgotten = [finish(db, send_study(node.port)[0]) for _ in range(3)]
        kept_uid, kept = send_study(node.port)
        finish(db, kept_uid)
        assert node.terminate() == 0
        assert all(forget_study(db, study_id) is not None for study_id in forgotten)
        retired = retire_segments(db, "instances")
        assert len(retired) >= 5
    files = len(list(node.state_folder.rglob("*.seg")))
    with node.start(), closing(node.open_database()) as db:
        before = segments_in_use(db, "instances")
        wait_until(lambda: "segments may be recycled" in node.log)
        # Blank segments that were prepared ahead come first; their number depends on how long it rested.
        new, recycled = [], set[int]()
        while not recycled and len(new) < STUDIES_MAX:
            new.append(send_study(node.port))
            everything = sorted([*kept, *(uid for _, sent in new for uid in sent)])
            wait_until(lambda everything=everything: sorted(stored_uids(db)) == everything)
            recycled = {number for number, _ in retired} & (segments_in_use(db, "instances") - before)
        assert recycled
        assert len(list(node.state_folder.rglob("*.seg"))) <= files + 3
        read_back(node, db, {kept_uid: kept, **dict(new)})
        assert node.terminate() == 0
    with node.start(), closing(node.open_database()) as db:
        read_back(node, db, {kept_uid: kept, **dict(new)})


def read_back(node: ListenerProcess, db: Database, studies: dict[str, dict[str, bytes]]) -> None:
    """Every row leads to the bytes that were sent."""
    store = ByteStore(node.state_folder / "spool")
    for study_uid, sent in studies.items():
        view = study(db, study_uid)
        assert view is not None
        found = {item.sop_uid: store.read(item.location) for item in instances_of(db, view.study.id)}
        assert found == sent
