"""Kill the worker at any point: in the end there is one result set, under the same UIDs, at the archive."""

import threading

import pytest
from pipeline_node import BREAST, breast_image, make_node
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from config.settings import PeerSettings

KILLED = 137
BREAST_ONLY = {"packages": {"enabled": [BREAST]}}
CLASSES = (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage)


class Archive:
    """Keeps every object it is sent, also the same one twice."""

    def __init__(self):
        self.received = []
        self._lock = threading.Lock()
        ae = AE("ARCHIVE")
        for sop_class in CLASSES:
            ae.add_supported_context(sop_class, "1.2.840.10008.1.2.1")
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]

    def _store(self, event):
        with self._lock:
            self.received.append((event.request.AffectedSOPInstanceUID, event.request.DataSet.getvalue()))
        return 0x0000

    def close(self):
        self._server.shutdown()


@pytest.fixture
def archive():
    made = Archive()
    yield made
    made.close()


@pytest.fixture
def node(tmp_path, database_url, archive):
    peer = PeerSettings(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=archive.port)
    worker = {"device": "cpu", "threads": 1, "lease_seconds": 2, "poll_seconds": 0.1}
    made = make_node(tmp_path, database_url, peers=(peer,), worker=worker, **BREAST_ONLY)
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, _sqlite_template):
    """What one worker makes of the study when nobody kills it: UIDs by kind."""
    import shutil

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "state").mkdir()
    shutil.copy(_sqlite_template, folder / "state" / "preread.db")
    url = f"sqlite:///{folder / 'state' / 'preread.db'}"
    node = make_node(folder, url, **BREAST_ONLY)
    node.receive([breast_image("1.2.1")])
    node.start_worker("undisturbed")
    node.wait_until(lambda: node.view("1.2.1").study.state == "done")
    uids = sorted((result.kind, result.sop_uid) for result in node.view("1.2.1").results)
    node.close()
    return uids


# A plan passes K12 twice before the analysis does: its own are the third and the fourth time.
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("K11", id="model_running"),
        pytest.param("K12:3", id="bytes_durable_before_the_commit_that_names_them"),
        pytest.param("K12:4", id="committed_not_sent"),
        pytest.param("K13:1", id="first_object_sent_not_recorded"),
        pytest.param("K13:2", id="second_object_sent_not_recorded"),
    ],
)
def test_killed_worker_leaves_exactly_one_result_set_in_the_end(point, node, archive, undisturbed):
    (study_uid,) = node.receive([breast_image("1.2.1")], source_ae="ARCHIVE")
    killed = node.start_worker("killed", kill_point=point)
    assert killed.wait(timeout=240) == KILLED
    node.start_worker("second")
    node.wait_until(lambda: node.view(study_uid).study.state == "done", channel="deliveries")

    view = node.view(study_uid)
    assert view.study.outcome == "delivered"
    assert sorted((result.kind, result.sop_uid) for result in view.results) == undisturbed
    assert {delivery.state for delivery in view.deliveries} == {"delivered"}
    assert len(view.deliveries) == len(view.results)
    assert [job.state for job in view.jobs] == ["done", "done"]
    # What arrived twice is the same object twice, byte for byte.
    assert {uid for uid, _ in archive.received} == {uid for _, uid in undisturbed}
    assert len(set(archive.received)) == len(undisturbed)
