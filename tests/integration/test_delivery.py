"""Results reach real peers as the bytes that were stored, and each destination has its own fate."""

import hashlib
import io
import socket
import subprocess
import threading
import time

import pytest
from installed_tools import tool
from pipeline_node import make_node
from pydicom import dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
)

from config.settings import PeerSettings
from db import jobs
from db.records import NewDelivery
from db.requests import retry_delivery
from db.results import commit_analysis, deliveries_of
from pipeline.assignment import WrittenObject
from pipeline.outbound.association import PeerUnreachable
from pipeline.outbound.delivery import Delivering, echo, outgoing
from pipeline.result_store import ResultStore

# pynetdicom drops the socket of a refused connection without closing it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EXPLICIT = "1.2.840.10008.1.2.1"
KINDS = {"SEG": SegmentationStorage, "SR": Comprehensive3DSRStorage, "SC": SecondaryCaptureImageStorage}
ALL_CLASSES = tuple(KINDS.values())
PATIENCE_SECONDS = 30.0


def part10(kind: str, sop_uid: str) -> bytes:
    """A small object with the attributes a storage SCP looks at, odd bytes in the middle to be kept."""
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.SOPClassUID, dataset.SOPInstanceUID = KINDS[kind], sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.1", f"{sop_uid}.1"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "P1", "Phantom^One", kind
    block = dataset.private_block(0x0011, "PREREAD TEST", create=True)
    block.add_new(0x01, "OB", bytes(range(256)) * 40)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def results_for(tmp_path, database_url):
    """A node with the given peers and three results of one study, due to the named destinations."""
    nodes = []

    def make(peers, destinations):
        from pipeline_node import breast_image

        node = make_node(tmp_path, database_url, peers=tuple(peers))
        nodes.append(node)
        (study_uid,) = node.receive([breast_image("1.2.1")])
        db = node.database
        plan = jobs.claim_next(db, worker="t", lease_seconds=60)
        assert jobs.finish_plan(db, plan, selections=[], analyse=[("m", {"series": []})])
        analysis = jobs.claim_next(db, worker="t", lease_seconds=60)
        store = ResultStore(node.settings.spool_folder, db)
        objects = [
            WrittenObject(
                kind, f"1.2.1.5.{n}", str(KINDS[kind]), f"1.2.1.5.{n}.1", part10(kind, f"1.2.1.5.{n}")
            )
            for n, kind in enumerate(KINDS, start=1)
        ]
        with store.batch() as batch:
            results = batch.write(objects)
        store.close()
        assert commit_analysis(
            db,
            analysis,
            outcome="analysed",
            reason_code=None,
            sentence=None,
            findings={},
            results=results,
            deliveries=[NewDelivery(r.sop_uid, name) for r in results for name in destinations],
        )
        return node, study_uid, {item.sop_uid: item.part10 for item in objects}

    yield make
    for node in nodes:
        node.close()


class Receiver:
    """A storage SCP that keeps what it gets and answers as it is told."""

    def __init__(self, *, classes=ALL_CLASSES, statuses=()):
        self.received = {}
        self.statuses = list(statuses)
        self.associations = 0
        ae = AE("ARCHIVE")
        for sop_class in (*classes, Verification):
            ae.add_supported_context(sop_class, EXPLICIT)
            ae.add_supported_context(sop_class, "1.2.840.10008.1.2")
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_ACCEPTED, self._accepted)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.server_address[1]

    def _accepted(self, event):
        self.associations += 1

    def _store(self, event):
        status = self.statuses.pop(0) if self.statuses else 0x0000
        if status == 0x0000:
            self.received[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return status

    def peer(self, name="archive", **changes):
        place = {"name": name, "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.port}
        return PeerSettings(**place | changes)


@pytest.fixture
def receiver():
    made = []

    def make(**options):
        made.append(Receiver(**options))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def deliver(node):
    return Delivering(node.settings, worker="t").deliver_due(node.database)


def states(node, study_uid):
    found = deliveries_of(node.database, study_id=node.view(study_uid).study.id)
    return {(d.destination, d.state) for d in found}


def dataset_of(stored: bytes) -> bytes:
    return outgoing("", "", stored).dataset


def test_peer_gets_exactly_the_stored_bytes_over_one_association(results_for, receiver):
    archive = receiver()
    node, study_uid, stored = results_for([archive.peer()], ["archive"])
    assert deliver(node) == 3
    assert archive.received == {uid: dataset_of(part10) for uid, part10 in stored.items()}
    assert archive.associations == 1
    view = node.view(study_uid)
    assert (view.study.state, view.study.outcome) == ("done", "delivered")


def test_dcmtk_receives_all_kinds(results_for, tmp_path):
    port, inbox = free_port(), tmp_path / "inbox"
    inbox.mkdir()
    process = subprocess.Popen(
        [tool("storescp"), "--aetitle", "ARCHIVE", "--output-directory", inbox, "--accept-all", str(port)]
    )
    try:
        peer = PeerSettings(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port)
        node, study_uid, stored = results_for([peer], ["archive"])
        wait_for_echo(node, peer)
        assert deliver(node) == 3
        files = {str(dcmread(path).SOPInstanceUID): path for path in inbox.iterdir()}
        assert set(files) == set(stored)
        for uid, path in files.items():
            kept = dcmread(path)
            ours = dcmread(io.BytesIO(stored[uid]))
            assert kept == ours
        assert node.view(study_uid).study.outcome == "delivered"
    finally:
        process.terminate()
        process.wait()


def wait_for_echo(node, peer):
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return echo(node.settings, peer)
        except PeerUnreachable:
            assert time.monotonic() < ends, "the peer did not come up"


def test_peer_that_refuses_a_class_is_named_and_the_other_objects_arrive(results_for, receiver):
    archive = receiver(classes=(SegmentationStorage, SecondaryCaptureImageStorage))
    node, study_uid, _ = results_for([archive.peer()], ["archive"])
    assert deliver(node) == 3
    assert set(archive.received) == {"1.2.1.5.1", "1.2.1.5.3"}
    found = deliveries_of(node.database, study_id=node.view(study_uid).study.id)
    (parked,) = [d for d in found if d.state == "parked"]
    assert "Comprehensive 3D SR Storage" in parked.last_error
    view = node.view(study_uid)
    assert (view.study.outcome, view.study.reason_code) == ("failed", "DELIVERY-PARKED")


def test_peer_that_refuses_every_class_parks_every_object(results_for, receiver):
    archive = receiver(classes=())
    node, study_uid, _ = results_for([archive.peer()], ["archive"])
    assert deliver(node) == 3
    assert states(node, study_uid) == {("archive", "parked")}


def test_object_refused_for_lack_of_resources_is_tried_again_and_then_delivered(results_for, receiver):
    archive = receiver(statuses=[0xA700])
    node, study_uid, stored = results_for([archive.peer()], ["archive"])

    def has_arrived():
        deliver(node)
        return set(archive.received) == set(stored)

    node.wait_until(has_arrived, channel="deliveries")
    view = node.view(study_uid)
    assert sorted(d.attempts for d in view.deliveries) == [1, 1, 2]
    assert any("out of resources (0xA700)" in event.text for event in view.events)
    assert view.study.outcome == "delivered"


def test_warning_counts_as_delivered(results_for, receiver):
    archive = receiver(statuses=[0xB000])
    node, study_uid, _ = results_for([archive.peer()], ["archive"])
    deliver(node)
    assert states(node, study_uid) == {("archive", "delivered")}


def test_destination_that_is_away_does_not_keep_results_from_the_other(results_for, receiver):
    archive = receiver()
    gone = PeerSettings(name="gone", ae_title="GONE", host="127.0.0.1", port=free_port())
    node, study_uid, _ = results_for([gone, archive.peer()], ["gone", "archive"])
    deliver(node)
    assert states(node, study_uid) == {("gone", "queued"), ("archive", "delivered")}


def test_destination_that_hangs_does_not_hold_up_the_other(results_for, receiver):
    archive = receiver()
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    hung = PeerSettings(name="hung", ae_title="HUNG", host="127.0.0.1", port=silent.getsockname()[1])
    node, study_uid, stored = results_for([hung, archive.peer()], ["hung", "archive"])
    delivering = Delivering(node.settings, worker="t")
    delivering.start()
    try:
        node.wait_until(lambda: set(archive.received) == set(stored), channel="deliveries")
        assert ("hung", "delivered") not in states(node, study_uid)
    finally:
        silent.close()
        delivering.stop(20)


def test_delivery_is_parked_after_its_tries_and_sent_on_request(results_for, receiver):
    archive = receiver(statuses=[0xC000] * 6)
    node, study_uid, stored = results_for([archive.peer()], ["archive"])
    node = _with(node, tries_max=2)
    node.wait_until(
        lambda: deliver(node) >= 0 and states(node, study_uid) == {("archive", "parked")},
        channel="deliveries",
    )
    view = node.view(study_uid)
    assert (view.study.outcome, view.study.reason_code) == ("failed", "DELIVERY-PARKED")
    for delivery in view.deliveries:
        assert delivery.attempts == 2
        retry_delivery(node.database, delivery.id)
    deliver(node)
    assert set(archive.received) == set(stored)
    assert node.view(study_uid).study.outcome == "delivered"


def _with(node, **limits):
    delivery = node.settings.delivery.model_copy(update=limits)
    node.settings = node.settings.model_copy(update={"delivery": delivery})
    return node


def test_destination_taken_out_of_the_settings_is_parked_and_says_so(results_for):
    node, study_uid, _ = results_for([], ["forgotten"])
    deliver(node)
    (delivery, *_) = node.view(study_uid).deliveries
    assert delivery.state == "parked"
    assert "in the settings" in delivery.last_error


def test_peer_that_rejects_us_is_tried_again_with_the_reason(results_for, receiver):
    archive = receiver()
    archive.server.ae.require_called_aet = True
    node, study_uid, _ = results_for([archive.peer(ae_title="WRONG")], ["archive"])
    deliver(node)
    (delivery, *_) = node.view(study_uid).deliveries
    assert delivery.state == "queued"
    assert "AE title" in delivery.last_error


def test_stop_ends_between_objects_and_leaves_the_rest_to_others(results_for, receiver):
    archive = receiver()
    node, study_uid, _ = results_for([archive.peer()], ["archive"])
    delivering = Delivering(node.settings, worker="t")
    released = threading.Event()
    former = archive._store

    def stop_first(event):
        delivering._stop.set()
        released.set()
        return former(event)

    archive.server.unbind(evt.EVT_C_STORE, archive._store)
    archive.server.bind(evt.EVT_C_STORE, stop_first)
    delivering.deliver_due(node.database)
    assert released.is_set()
    found = deliveries_of(node.database, study_id=node.view(study_uid).study.id)
    assert sorted((d.state, d.attempts) for d in found) == [("delivered", 1), ("queued", 0), ("queued", 0)]


def test_echo_answers_with_the_time_it_took(receiver, tmp_path, sqlite_url):
    archive = receiver()
    node = make_node(tmp_path, sqlite_url)
    report = echo(node.settings, archive.peer())
    assert report.ae_title == "ARCHIVE"
    assert "ms" in str(report)
    with pytest.raises(PeerUnreachable) as missed:
        echo(node.settings, archive.peer(port=free_port()))
    assert "cannot be reached" in str(missed.value)
    node.close()


def test_stored_bytes_are_what_the_row_promises(results_for, receiver):
    archive = receiver()
    node, study_uid, stored = results_for([archive.peer()], ["archive"])
    for result in node.view(study_uid).results:
        assert hashlib.sha256(stored[result.sop_uid]).hexdigest() == result.sha256
