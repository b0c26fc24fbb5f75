"""Who asks for storage commitment is told what is held: on its association, or on one of ours, in the end."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dicom_peer import CT, DEFLATED, EXPLICIT, Peer, associate_request, context, ct_dataset, new_uid
from listener_process import ListenerProcess, seen, stored_uids, wait_until
from orthanc_process import ORTHANC_AE, free_port, need_installed, running_orthanc
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.transport import ThreadedAssociationServer

from db.commitments import unreported_commitments
from db.engine import Database
from db.intake import list_refused
from listener.commitment import REFERENCES_MAX
from listener.contexts import COMMITMENT, COMMITMENT_INSTANCE

MR = "1.2.840.10008.5.1.4.1.1.4"
WAIT_SECONDS = 60.0
MODALITY: dict[str, Any] = {
    "name": "modality",
    "ae_title": "SCANNER",
    "addresses": ["127.0.0.0/8"],
    "may_ask_commitment": True,
}
VIEWER = {"name": "viewer", "ae_title": "VIEWER", "addresses": ["127.0.0.0/8"]}
QUICK_TRIES = {"delivery": {"tries_max": 2, "first_wait_seconds": 0.1}}


@dataclass(frozen=True)
class Report:
    """An N-EVENT-REPORT as the SCU got it."""

    event_type: int
    transaction: str
    held: list[str]
    failed: dict[str, int]


@dataclass
class Reported:
    """What an SCU was told, and what it answers."""

    status: int = 0x0000
    reports: "queue.Queue[Report]" = field(default_factory=queue.Queue)

    def take(self, event: evt.Event) -> tuple[int, None]:
        content: Dataset = event.event_information
        self.reports.put(
            Report(
                int(event.request.EventTypeID),
                str(content.TransactionUID),
                [str(each.ReferencedSOPInstanceUID) for each in content.get("ReferencedSOPSequence", [])],
                {
                    str(each.ReferencedSOPInstanceUID): int(each.FailureReason)
                    for each in content.get("FailedSOPSequence", [])
                },
            )
        )
        return self.status, None

    def next(self) -> Report:
        return self.reports.get(timeout=WAIT_SECONDS)


@contextmanager
def asking(port: int, reported: Reported | None = None, calling: str = "SCANNER") -> Iterator[Association]:
    """A modality that asks, and takes reports on the same association."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(COMMITMENT)
    handlers: list[Any] = [] if reported is None else [(evt.EVT_N_EVENT_REPORT, reported.take)]
    association = ae.associate("127.0.0.1", port, ae_title="PREREAD", evt_handlers=handlers)
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@contextmanager
def waiting_modality(reported: Reported, port: int = 0, *, takes_role: bool = True) -> Iterator[int]:
    """The same modality as one who is called; its port."""
    ae = AE(ae_title="SCANNER")
    if takes_role:
        ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    else:
        ae.add_supported_context(COMMITMENT)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, reported.take)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert isinstance(server, ThreadedAssociationServer)
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    """One that reports on the association that asks, or never."""
    with ListenerProcess(
        tmp_path_factory.mktemp("node"), peers=(MODALITY, VIEWER), listener={"segment_mib": 16}
    ) as process:
        yield process


@pytest.fixture
def db(node: ListenerProcess) -> Iterator[Database]:
    with closing(node.open_database()) as database:
        yield database


def reference(uid: str, sop_class: str = CT) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def taken(db: Database) -> None:
    """Wait until the listener has the answer to its report: nothing of it is under way any more."""
    wait_until(lambda: not unreported_commitments(db), what="the answer to the report")


def ask(
    association: Association, references: Sequence[Dataset], *, action: int = 1, instance: str = ""
) -> tuple[int, str]:
    """The status of the N-ACTION, and the transaction's UID."""
    request = Dataset()
    request.TransactionUID = new_uid()
    request.ReferencedSOPSequence = list(references)
    answer, _ = association.send_n_action(request, action, COMMITMENT, instance or COMMITMENT_INSTANCE)
    return int(answer.Status), str(request.TransactionUID)


def send(port: int, uids: Sequence[str], *, study: str | None = None, pixels: bytes = bytes(64)) -> None:
    with Peer(port).associate() as peer:
        for uid in uids:
            assert peer.store(uid, ct_dataset(uid, study=study, pixels=pixels)) == 0


def at(port: int) -> dict[str, Any]:
    return {**MODALITY, "host": "127.0.0.1", "port": port}


def commitment_lines(db: Database, study: str) -> list[str]:
    return [event.text for event in seen(db, study).events if event.kind == "commitment"]


def parked_words(db: Database) -> list[tuple[str, str]]:
    return [(each.reason, each.remedy) for each in list_refused(db) if "no report" in each.reason]


def test_report_comes_on_the_association_that_asked(tmp_path: Path, database_url: str) -> None:
    study, held, missing, other = new_uid(), [new_uid(), new_uid()], new_uid(), new_uid()
    reported = Reported()
    with (
        ListenerProcess(tmp_path, database_url, peers=(MODALITY,)) as node,
        closing(node.open_database()) as db,
    ):
        send(node.port, [*held, other], study=study)
        with asking(node.port, reported) as modality:
            # Asked right behind the last image: judged only when its rows are there.
            status, first = ask(modality, [reference(uid) for uid in held])
            assert status == 0
            assert reported.next() == Report(1, first, held, {})
            taken(db)
            wanted = [reference(held[0]), reference(missing), reference(other, MR)]
            status, second = ask(modality, wanted)
            assert status == 0
            assert reported.next() == Report(2, second, [held[0]], {missing: 0x0112, other: 0x0119})
            taken(db)
            assert ask(modality, [reference(missing)])[0] == 0
            assert reported.next().held == []
            taken(db)
        assert sorted(commitment_lines(db, study)) == [
            "SCANNER asks for storage commitment of 2 instances, all held",
            "SCANNER asks for storage commitment of 3 instances, 2 of them not held here",
            *["SCANNER has the report of its storage commitment"] * 2,
        ]
    assert reported.reports.empty()


def test_report_comes_on_an_association_of_ours_when_that_of_the_request_is_closed(
    tmp_path: Path, database_url: str
) -> None:
    uid, reported = new_uid(), Reported()
    with (
        waiting_modality(reported) as port,
        ListenerProcess(tmp_path, database_url, peers=(at(port),)) as node,
        closing(node.open_database()) as db,
    ):
        send(node.port, [uid])
        with asking(node.port) as modality:
            status, transaction = ask(modality, [reference(uid)])
            assert status == 0
        assert reported.next() == Report(1, transaction, [uid], {})
        taken(db)


def test_report_survives_a_kill_of_the_listener(tmp_path: Path) -> None:
    uid, reported, port = new_uid(), Reported(), free_port()
    node = ListenerProcess(tmp_path, peers=(at(port),))
    with node:
        send(node.port, [uid])
        with asking(node.port) as modality:
            status, transaction = ask(modality, [reference(uid)])
            assert status == 0
            node.kill()
    with waiting_modality(reported, port), node:
        assert reported.next() == Report(1, transaction, [uid], {})
        with closing(node.open_database()) as db:
            taken(db)
    assert reported.reports.empty()


def test_peer_without_an_address_is_named_and_told_once_it_has_one(tmp_path: Path) -> None:
    uid, study, reported = new_uid(), new_uid(), Reported()
    node = ListenerProcess(tmp_path, peers=(MODALITY,))
    with node, closing(node.open_database()) as db:
        send(node.port, [uid], study=study)
        with asking(node.port) as modality:
            status, transaction = ask(modality, [reference(uid)])
            assert status == 0
        ((reason, remedy),) = wait_until(lambda: parked_words(db), what="the words about the peer")
        assert "1 instance, all held" in reason
        assert "no host and port of the peer are known" in reason
        assert "Give the peer its host and port" in remedy
        assert "cannot be told" in commitment_lines(db, study)[-1]
        assert [each.is_parked for each in unreported_commitments(db)] == [True]
        assert node.terminate() == 0
    with waiting_modality(reported) as port:
        node.peers = (at(port),)
        with node:
            assert reported.next().transaction == transaction


@pytest.mark.parametrize(
    ("status", "takes_role", "words"),
    [(0x0110, True, "answered 0x0110"), (0, False, "did not accept us as SCP")],
    ids=["refused", "no-role"],
)
def test_report_that_is_not_taken_is_tried_again_and_then_parked(
    tmp_path: Path, status: int, takes_role: bool, words: str
) -> None:
    reported = Reported(status)
    with (
        waiting_modality(reported, takes_role=takes_role) as port,
        ListenerProcess(tmp_path, peers=(at(port),), settings=QUICK_TRIES) as node,
        closing(node.open_database()) as db,
    ):
        with asking(node.port) as modality:
            assert ask(modality, [reference(new_uid())])[0] == 0
        ((reason, _),) = wait_until(lambda: parked_words(db), what="the parked report")
        assert reason.endswith(words)
        (left,) = unreported_commitments(db)
        assert (left.attempts, left.is_parked) == (2, True)
    assert reported.reports.qsize() == (2 if takes_role else 0)


def test_instance_put_aside_as_a_conflict_counts_as_not_held(node: ListenerProcess, db: Database) -> None:
    uid, reported = new_uid(), Reported()
    send(node.port, [uid])
    send(node.port, [uid], pixels=bytes(128))
    with asking(node.port, reported) as modality:
        assert ask(modality, [reference(uid)])[0] == 0
        assert reported.next().failed == {uid: 0x0112}
        taken(db)


def test_requests_that_are_none_or_not_allowed_are_refused_by_status(
    node: ListenerProcess, db: Database
) -> None:
    uid, before = new_uid(), len(node.replayed())
    with asking(node.port, calling="VIEWER") as viewer:
        assert ask(viewer, [reference(uid)])[0] == 0x0124
    with asking(node.port) as modality:
        assert ask(modality, [reference(uid)], action=2)[0] == 0x0123
        assert ask(modality, [reference(uid)], instance=new_uid())[0] == 0x0112
        assert ask(modality, [])[0] == 0x0115
        assert ask(modality, [reference("")])[0] == 0x0115
        many = [reference(uid)] * (REFERENCES_MAX + 1)
        assert ask(modality, many)[0] == 0x0115
    words = "storage commitment refused with 0124: may_ask_commitment is false for this peer"
    (said,) = wait_until(lambda: [each for each in list_refused(db) if each.reason == words])
    assert said.remedy == "Set may_ask_commitment of this peer to true if it may ask for that."
    assert len(node.replayed()) == before


def test_request_of_many_pdus_is_answered_in_full(node: ListenerProcess, db: Database) -> None:
    reported = Reported()
    uids = [f"{new_uid()}.{number}" for number in range(2000)]
    with asking(node.port, reported) as modality:
        assert ask(modality, [reference(uid) for uid in uids])[0] == 0
        assert list(reported.next().failed) == uids
        taken(db)


def test_peer_that_wants_to_be_scp_is_refused_and_deflated_is_refused_by_name(
    node: ListenerProcess, db: Database
) -> None:
    ae = AE(ae_title="SCANNER")
    ae.add_requested_context(COMMITMENT)
    ae.add_requested_context(CT, EXPLICIT)
    ae.add_requested_context(MR, DEFLATED)
    roles = [build_role(COMMITMENT, scp_role=True), build_role(CT, scu_role=True, scp_role=True)]
    association = ae.associate("127.0.0.1", node.port, ae_title="PREREAD", ext_neg=roles)
    assert [str(each.abstract_syntax) for each in association.accepted_contexts] == [CT]
    assert [(each.as_scu, each.as_scp) for each in association.accepted_contexts] == [(True, False)]
    association.release()
    contexts = context(1, CT, DEFLATED) + context(3, MR, EXPLICIT)
    Peer(node.port).associate(associate_request(contexts=contexts)).release()
    for name in ("MR Image Storage", "CT Image Storage"):
        words = f"{name} in Deflated Explicit VR Little Endian"
        wait_until(lambda words=words: any(words in each.reason for each in list_refused(db)), what=words)


def test_orthanc_sends_and_has_the_storage_committed(tmp_path: Path) -> None:
    need_installed("Orthanc")
    node_port, study, uids = free_port(), new_uid(), [new_uid(), new_uid()]
    modalities = {
        "preread": {
            "AET": "PREREAD",
            "Host": "127.0.0.1",
            "Port": node_port,
            "AllowStorageCommitment": True,
        }
    }
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc", may_ask=(), modalities=modalities) as orthanc:
        with Peer(orthanc.dicom_port).associate(associate_request(called=ORTHANC_AE)) as peer:
            for uid in uids:
                assert peer.store(uid, ct_dataset(uid, study=study)) == 0
        archive = {
            "name": "orthanc",
            "ae_title": ORTHANC_AE,
            "host": "127.0.0.1",
            "port": orthanc.dicom_port,
            "may_ask_commitment": True,
        }
        with (
            ListenerProcess(tmp_path / "node", peers=(archive,), listener={"port": node_port}) as node,
            closing(node.open_database()) as db,
        ):
            sent = orthanc.rest(
                "/modalities/preread/store",
                {"Resources": orthanc.rest("/instances"), "StorageCommitment": True, "Synchronous": True},
            )
            said = wait_until(lambda: orthanc_said(orthanc, sent), what="Orthanc's report")
            assert sorted(each["SOPInstanceUID"] for each in said["Success"]) == sorted(uids)
            assert said["Failures"] == []
            assert sorted(stored_uids(db)) == sorted(uids)
            asked = orthanc.rest(
                "/modalities/preread/storage-commitment", {"DicomInstances": [[CT, uids[0]], [MR, uids[1]]]}
            )
            transaction = asked["ID"]
            said = wait_until(lambda: finished(orthanc, transaction), what="Orthanc's second report")
            assert (said["Status"], [each["SOPInstanceUID"] for each in said["Success"]]) == (
                "Failure",
                [uids[0]],
            )
            assert [(each["SOPInstanceUID"], each["FailureReason"]) for each in said["Failures"]] == [
                (uids[1], 0x0119)
            ]


def orthanc_said(orthanc: Any, sent: Any) -> Any:
    return finished(orthanc, sent["StorageCommitmentTransactionUID"])


def finished(orthanc: Any, transaction: str) -> Any:
    said = orthanc.rest(f"/storage-commitment/{transaction}")
    return None if said["Status"] == "Pending" else said
