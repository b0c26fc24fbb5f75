"""Missing images are fetched: from a real Orthanc both ways, and from archives that send what they like."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dicom_peer import CT, Peer, associate_request, ct_dataset, new_uid
from listener_process import ListenerProcess, seen, state_of, stored_uids, wait_until
from orthanc_process import ORTHANC_AE, Orthanc, need_installed, running_orthanc
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as STUDY_ROOT_GET
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as STUDY_ROOT_MOVE
from pynetdicom.sop_class import Verification

from config.settings import PeerSettings, Settings
from db.engine import Database
from listener.contexts import AVAILABILITY
from listener.missing import Missing
from listener.retrieve import NotRetrieved, Retrieved, retrieve_missing

STUDY, SERIES = new_uid(), new_uid()
UIDS = [new_uid() for _ in range(3)]


def image(uid: str, *, study: str = STUDY, series: str = SERIES) -> bytes:
    return ct_dataset(uid, study=study, series=series, pixels=bytes(512))


def send(port: int, uids: Sequence[str], *, calling: str, called: str = "PREREAD") -> None:
    with Peer(port).associate(associate_request(calling=calling, called=called)) as peer:
        for uid in uids:
            assert peer.store(uid, image(uid)) == 0


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    need_installed("Orthanc")
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), may_ask=["PREREAD"]) as archive:
        send(archive.dicom_port, UIDS, calling="SCANNER", called=ORTHANC_AE)
        yield archive


def notify(port: int) -> None:
    """The archive states what it has."""
    notice, series = Dataset(), Dataset()
    notice.StudyInstanceUID, notice.ReferencedPerformedProcedureStepSequence = STUDY, []
    series.SeriesInstanceUID, series.ReferencedSOPSequence = SERIES, []
    for uid in UIDS:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", ORTHANC_AE
        series.ReferencedSOPSequence.append(item)
    notice.ReferencedSeriesSequence = [series]
    ae = AE(ae_title=ORTHANC_AE)
    ae.add_requested_context(AVAILABILITY)
    association = ae.associate("127.0.0.1", port, ae_title="PREREAD")
    assert association.is_established
    status, _ = association.send_n_create(notice, AVAILABILITY)
    association.release()
    assert status.Status == 0


@pytest.mark.parametrize(
    ("how", "by_name", "words"),
    [
        ("c-get", True, "2 missing instances (C-GET, try 1 of 3): 2 instances sent"),
        ("c-move", True, "2 missing instances (C-MOVE, try 1 of 3): 2 instances sent"),
        ("c-get", False, "2 missing instances (C-GET, try 1 of 3): 3 instances sent"),
    ],
)
def test_missing_images_are_fetched_from_orthanc_and_the_study_is_whole(
    orthanc: Orthanc, tmp_path: Path, how: str, by_name: bool, words: str
) -> None:
    peer = {"name": "orthanc", "ae_title": ORTHANC_AE, "host": "127.0.0.1", "port": orthanc.dicom_port}
    allowed = {"fetch_missing": how, "ask_counts": not by_name}
    # The archive is asked for counts after a third of it.
    quiet_seconds = 1 if by_name else 9
    with (
        ListenerProcess(
            tmp_path, peers=({**peer, **allowed},), listener={"quiet_seconds": quiet_seconds}
        ) as node,
        closing(node.open_database()) as db,
    ):
        orthanc.know("PREREAD", node.port)
        if by_name:
            notify(node.port)
        send(node.port, UIDS[:1], calling=ORTHANC_AE)
        wait_until(lambda: state_of(db, STUDY) == "whole", what="the study's end")
        view = seen(db, STUDY)
        assert sorted(stored_uids(db)) == sorted(UIDS)
        assert (view.study.revision, view.study.partial) == (1, False)
        told = [(event.source, event.text) for event in view.events if event.kind == "fetch"]
        assert told == [(ORTHANC_AE, f"{ORTHANC_AE} was asked for {words}")]


# Archives that do as they like.


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ListenerProcess, Database]]:
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "fetch_missing": "c-get"}
    with (
        ListenerProcess(tmp_path_factory.mktemp("node"), peers=(peer,)) as node,
        closing(node.open_database()) as db,
    ):
        yield node, db


@contextmanager
def archive(
    *datasets: bytes, ends: int = 0x0000, sop_class: Any = STUDY_ROOT_GET, hangs_up: bool = False
) -> Iterator[int]:
    """Whatever it is asked for, it sends these, and says so; its port."""

    def get(event: evt.Event) -> Iterator[Any]:
        if hangs_up:
            event.assoc.abort()
        yield len(datasets) + (1 if ends else 0)
        for raw in datasets:
            dataset = read_dataset(BytesIO(raw), False, True)
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            yield 0xFF00, dataset
        if ends:
            yield ends, None

    def move(event: evt.Event) -> Iterator[Any]:
        yield None, None  # it knows no such destination

    ae = AE(ae_title="PACS")
    ae.add_supported_context(sop_class)
    if sop_class == STUDY_ROOT_GET:
        ae.add_supported_context(CT, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_GET, get), (evt.EVT_C_MOVE, move)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def fetch(
    node: tuple[ListenerProcess, Database], port: int, *uids: str, how: str = "c-get", **changed: Any
) -> Retrieved:
    """Ask for `uids` of one series, or for all of it."""
    values = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "fetch_missing": how}
    peer = PeerSettings.model_validate({**values, **changed})
    settings = Settings(state_folder=node[0].state_folder, peers=(peer,))
    missing = Missing({SERIES: frozenset(uids)}) if uids else Missing(counted={SERIES: 1})
    return retrieve_missing(peer, STUDY, missing, settings=settings)


def stored(node: tuple[ListenerProcess, Database]) -> set[str]:
    return set(node[0].kept())


def test_what_comes_by_c_get_is_durable_when_it_is_acknowledged(
    node: tuple[ListenerProcess, Database],
) -> None:
    uid = new_uid()
    with archive(image(uid)) as port:
        assert fetch(node, port, uid) == Retrieved(sent=1)
    assert node[0].kept()[uid] == [image(uid)]


def test_instances_that_were_not_asked_for_are_refused_and_leave_nothing(
    node: tuple[ListenerProcess, Database],
) -> None:
    asked, other, strange, elsewhere = (new_uid() for _ in range(4))
    lies = [
        image(other),
        image(asked, study=new_uid()),
        image(asked, series=new_uid()),
        image(asked),
    ]
    with archive(*lies) as port:
        found = fetch(node, port, asked)
    assert (found.sent, found.failed) == (1, 3)
    assert found.refused == "the archive sent an instance that was not asked for"
    with archive(image(strange, study=new_uid()), image(elsewhere, series=new_uid())) as port:
        found = fetch(node, port)  # the whole series
    assert (found.sent, found.refused) == (0, "the archive sent an instance of another series")
    assert {other, strange, elsewhere}.isdisjoint(stored(node))
    assert node[0].kept()[asked] == [image(asked)]


def test_what_a_c_store_would_be_refused_for_is_refused_here(node: tuple[ListenerProcess, Database]) -> None:
    uid = new_uid()
    with archive(image(uid)) as port:
        found = fetch(node, port, uid, ae_title="STRANGER")
    assert found.refused == "may_send is false for this peer"
    assert uid not in stored(node)


@pytest.mark.parametrize(
    ("options", "how", "words"),
    [
        ({}, "c-get", None),
        ({"ends": 0xA900}, "c-get", "it does not understand the question (0xA900)"),
        ({"ends": 0xC123}, "c-get", "it answered 0xC123"),
        ({"hangs_up": True}, "c-get", "it gave no answer in time"),
        (
            {"sop_class": STUDY_ROOT_MOVE},
            "c-move",
            "it does not know this node as a destination (0xA801)",
        ),
    ],
)
def test_archive_that_gives_nothing_is_told_of_with_its_reason(
    node: tuple[ListenerProcess, Database], options: dict[str, Any], how: str, words: str | None
) -> None:
    with archive(**options) as port:
        found = fetch(node, port, new_uid(), how=how)
    assert (found.sent, found.stopped) == (0, words)


@pytest.mark.parametrize("how", ["c-get", "c-move"])
def test_archive_that_cannot_be_asked_says_why(node: tuple[ListenerProcess, Database], how: str) -> None:
    with archive(sop_class=Verification) as port, pytest.raises(NotRetrieved) as found:
        fetch(node, port, new_uid(), how=how)
    assert found.value.what == f"does not take {how.upper()} (Study Root)"
    assert "fetch_missing of pacs" in str(found.value)
