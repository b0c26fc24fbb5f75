"""Real senders push to the real listener: what they sent is kept byte for byte, once, and becomes a study."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    PDF,
    VERIFICATION,
    Peer,
    Refused,
    associate_request,
    context,
    ct_dataset,
    item,
    new_uid,
    store_message,
)
from installed_tools import tool
from listener_process import ListenerProcess, seen, state_of, stored_uids, wait_until
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from config.identity import own_uid
from db.engine import Database
from db.intake import list_refused

FILES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_implicit.dcm",
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    with ListenerProcess(tmp_path_factory.mktemp("node")) as process:
        yield process


@pytest.fixture
def db(node: ListenerProcess) -> Iterator[Database]:
    opened = node.open_database()
    yield opened
    opened.close()


def test_dcmtk_echoes(node: ListenerProcess) -> None:
    subprocess.run([tool("echoscu"), "-aec", "PREREAD", "127.0.0.1", str(node.port)], check=True)


def test_dcmtk_stores_files_of_several_transfer_syntaxes(node: ListenerProcess, db: Database) -> None:
    paths = [Path(str(get_testdata_file(name, download=False))) for name in FILES]
    for path in paths:
        option = {"1.2.840.10008.1.2.5": "-xr", "1.2.840.10008.1.2.4.90": "-xv", IMPLICIT: "-xi"}.get(
            str(dcmread(path).file_meta.TransferSyntaxUID), "-xe"
        )
        address = ["127.0.0.1", str(node.port)]
        subprocess.run([tool("storescu"), "-aec", "PREREAD", option, *address, str(path)], check=True)
    kept = node.kept()
    sent = [dcmread(path) for path in paths]
    for dataset in sent:
        # Some of these files have the same UID: other bytes under it are kept, too.
        assert any(bytes(dataset.PixelData) in each for each in kept[dataset.SOPInstanceUID])
    wait_until(lambda: {str(dataset.SOPInstanceUID) for dataset in sent} <= set(stored_uids(db)))
    wait_until(lambda: all(state_of(db, dataset.StudyInstanceUID) == "whole" for dataset in sent))
    jobs = [job for dataset in sent for job in seen(db, dataset.StudyInstanceUID).jobs]
    assert {(job.kind, job.state) for job in jobs} == {("plan", "queued")}


def test_bytes_kept_are_the_bytes_sent(node: ListenerProcess) -> None:
    sent = {new_uid(): size for size in (0, 1, 8192, 300_000)}
    datasets = {uid: ct_dataset(uid, pixels=os.urandom(size)) for uid, size in sent.items()}
    with Peer(node.port).associate() as peer:
        for uid, dataset in datasets.items():
            assert peer.store(uid, dataset) == 0
        peer.release()
    kept = node.kept()
    assert {uid: kept[uid] for uid in datasets} == {uid: [dataset] for uid, dataset in datasets.items()}


def test_instance_larger_than_a_segment_is_kept_byte_for_byte(node: ListenerProcess) -> None:
    uid = new_uid()
    dataset = ct_dataset(uid, pixels=os.urandom(5 << 20))
    with Peer(node.port).associate() as peer:
        assert peer.store(uid, dataset) == 0
        assert peer.echo() == 0
    assert node.kept()[uid] == [dataset]


@pytest.mark.parametrize("size", [600, 16378, 131_000])
def test_stores_sent_before_any_response_is_read_are_all_answered_in_order(
    node: ListenerProcess, size: int
) -> None:
    uids = [new_uid() for _ in range(60)]
    data = b"".join(
        store_message(uid, ct_dataset(uid, pixels=bytes(20_000)), message_id=n + 1, size=size)
        for n, uid in enumerate(uids)
    )
    with Peer(node.port).associate() as peer:
        peer.send(data)
        answers = [peer.receive() for _ in uids]
    assert [
        int.from_bytes(answer[answer.index(b"\x20\x01\x02\0\0\0") + 6 :][:2], "little") for answer in answers
    ] == [n + 1 for n in range(60)]
    assert set(uids) <= set(node.kept())


def test_same_instance_twice_is_acknowledged_and_exists_once(node: ListenerProcess, db: Database) -> None:
    uid, study = new_uid(), new_uid()
    dataset = ct_dataset(uid, study=study)
    with Peer(node.port).associate() as peer:
        assert [peer.store(uid, dataset) for _ in range(3)] == [0, 0, 0]
    wait_until(lambda: state_of(db, study) == "whole")
    assert stored_uids(db).count(uid) == 1
    assert seen(db, study).study.instances == 1
    assert not seen(db, study).conflicts


def test_other_bytes_under_the_same_uid_are_kept_aside_and_shown(node: ListenerProcess, db: Database) -> None:
    uid, study = new_uid(), new_uid()
    first, second = (ct_dataset(uid, study=study, pixels=os.urandom(100)) for _ in range(2))
    with Peer(node.port).associate() as peer:
        assert [peer.store(uid, dataset) for dataset in (first, second)] == [0, 0]
    conflict = wait_until(lambda: state_of(db, study) and seen(db, study).conflicts)[0]
    assert conflict.sop_uid == uid
    assert node.kept()[uid] == [first, second]
    assert seen(db, study).study.instances == 1


def test_late_image_opens_a_new_revision(node: ListenerProcess, db: Database) -> None:
    study = new_uid()
    for revision in (1, 2):
        uid = new_uid()
        with Peer(node.port).associate() as peer:
            assert peer.store(uid, ct_dataset(uid, study=study)) == 0
        wait_until(lambda n=revision: state_of(db, study) == "whole" and seen(db, study).study.revision == n)
    assert [(job.kind, job.revision) for job in seen(db, study).jobs] == [("plan", 1), ("plan", 2)]


def test_our_own_results_coming_back_never_start_a_job(node: ListenerProcess, db: Database) -> None:
    study, uid, ours = new_uid(), new_uid(), own_uid(os.urandom(8))
    with Peer(node.port).associate() as peer:
        assert peer.store(uid, ct_dataset(uid, study=study)) == 0
    wait_until(lambda: state_of(db, study) == "whole")
    with Peer(node.port).associate() as peer:
        assert peer.store(ours, ct_dataset(ours, study=study, series=own_uid(b"series"))) == 0
    wait_until(lambda: ours in stored_uids(db))
    found = seen(db, study)
    assert (found.study.state, found.study.revision, found.study.instances) == ("whole", 1, 1)
    assert len(found.jobs) == 1


def test_classes_we_do_not_take_are_refused_by_name_and_the_rest_is_taken(
    node: ListenerProcess, db: Database
) -> None:
    contexts = context(1, CT, EXPLICIT) + context(3, VERIFICATION, IMPLICIT) + context(5, PDF, EXPLICIT)
    uid = new_uid()
    with Peer(node.port).associate(associate_request(contexts=contexts)) as peer:
        assert peer.store(uid, ct_dataset(uid)) == 0
    wait_until(lambda: any("Encapsulated PDF Storage" in each.reason for each in list_refused(db)))


@pytest.mark.parametrize("unusual", ["role", "identity"])
def test_unusual_proposals_store_by_the_same_durable_way(
    node: ListenerProcess, db: Database, unusual: str
) -> None:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = new_uid(), new_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    ae = AE(ae_title="PYNETDICOM")
    ae.add_requested_context(CT, EXPLICIT)
    ae.add_requested_context(VERIFICATION)
    negotiation = [build_role(CT, scu_role=True, scp_role=True)]
    if unusual == "identity":
        identity = UserIdentityNegotiation()
        identity.user_identity_type, identity.primary_field = 1, b"scanner"
        negotiation = [identity]
    association = ae.associate("127.0.0.1", node.port, ae_title="PREREAD", ext_neg=negotiation)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    assert association.send_c_store(dataset).Status == 0
    wrong = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    wrong.SOPInstanceUID = new_uid()
    del wrong.SeriesInstanceUID
    assert association.send_c_store(wrong).Status == 0xA900
    association.release()
    kept = node.kept()
    assert bytes(dataset.PixelData) in kept[dataset.SOPInstanceUID][0]
    assert wrong.SOPInstanceUID not in kept
    wait_until(lambda: state_of(db, dataset.StudyInstanceUID) == "whole")


def test_unusual_associations_are_bounded(tmp_path: Path) -> None:
    request = associate_request(user_items=item(0x53, b"\0\1\0\1"))
    with ListenerProcess(tmp_path, listener={"unusual_associations_max": 2}) as node:
        held = [Peer(node.port, source=f"127.0.0.{n}").associate(request) for n in (3, 4)]
        with pytest.raises(Refused) as refused:
            Peer(node.port).associate(request)
        assert refused.value.pdu[:1] == b"\x03"
        with Peer(node.port).associate() as plain:
            assert plain.echo() == 0
        held[0].release()

        def admitted() -> bool:
            try:
                Peer(node.port).associate(request).close()
            except Refused:
                return False
            return True

        wait_until(admitted)
        held[1].close()


def test_quiet_period_of_the_peer_decides(tmp_path: Path) -> None:
    peers = (
        {"name": "slow", "ae_title": "SCANNER", "addresses": ["127.0.0.1"], "quiet_seconds": 3600.0},
        {"name": "fast", "ae_title": "PACS", "addresses": ["127.0.0.1"], "quiet_seconds": 0.3},
    )
    with ListenerProcess(tmp_path, peers=peers) as node:
        studies: dict[str, str] = {}
        for calling in ("SCANNER", "PACS"):
            studies[calling], uid = new_uid(), new_uid()
            with Peer(node.port).associate(associate_request(calling=calling)) as peer:
                assert peer.store(uid, ct_dataset(uid, study=studies[calling])) == 0
        db = node.open_database()
        wait_until(lambda: state_of(db, studies["PACS"]) == "whole")
        assert state_of(db, studies["SCANNER"]) == "receiving"
        db.close()
