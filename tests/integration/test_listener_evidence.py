"""A study closes by what peers state of it: at once when all is here, as partial when something is not."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dicom_peer import CT, Peer, associate_request, ct_dataset, new_uid
from listener_process import ListenerProcess, seen, state_of, wait_until
from orthanc_process import ORTHANC_AE, Orthanc, need_installed, running_orthanc
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import AE
from pynetdicom.association import Association

from config.identity import own_uid
from db.engine import Database
from db.intake import close_study, record_batch
from db.notices import notices_of_receiving
from db.records import JobRecord, Location, ReceivedInstance
from listener.contexts import AVAILABILITY, MPPS, UPS_PUSH

SCANNER = {"name": "ct", "ae_title": "SCANNER", "addresses": ["127.0.0.0/8"], "notices_about": "any"}
PACS: Mapping[str, Any] = {"name": "pacs", "ae_title": "PACS", "addresses": ["127.0.0.0/8"]}
VIEWER = {"name": "viewer", "ae_title": "VIEWER", "addresses": ["127.0.0.0/8"], "may_send": False}
MINUTES = {"quiet_seconds": 600}


@dataclass
class Study:
    """A CT study of two series, as its scanner and its archive know it."""

    uid: str = field(default_factory=new_uid)
    series: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {new_uid(): [new_uid(), new_uid()], new_uid(): [new_uid()]}
    )

    @property
    def images(self) -> list[tuple[str, str]]:
        """(series, instance) in order."""
        return [(series, uid) for series, uids in self.series.items() for uid in uids]

    def encoded(self, series: str, uid: str) -> bytes:
        return ct_dataset(uid, study=self.uid, series=series, pixels=bytes(512))

    def send(self, port: int, *, calling: str = "PACS", skip: int = 0, called: str = "PREREAD") -> None:
        """All images but the last `skip`."""
        with Peer(port).associate(associate_request(calling=calling, called=called)) as peer:
            for series, uid in self.images[: len(self.images) - skip]:
                assert peer.store(uid, self.encoded(series, uid)) == 0

    def begun(self) -> Dataset:
        step, scheduled = Dataset(), Dataset()
        scheduled.StudyInstanceUID = self.uid
        step.ScheduledStepAttributesSequence = [scheduled]
        step.PatientName, step.PatientID = "Doe^Jane", "P1"
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        step.PerformedSeriesSequence = []
        return step

    def ended(self, status: str = "COMPLETED") -> Dataset:
        step = Dataset()
        step.PerformedProcedureStepStatus = status
        step.PerformedSeriesSequence = []
        for series, uids in self.series.items():
            item = Dataset()
            item.SeriesInstanceUID = series
            item.ReferencedImageSequence = [reference(uid) for uid in uids]
            step.PerformedSeriesSequence.append(item)
        return step

    def pushed(self, readiness: str = "READY", *, skip: int = 0) -> Dataset:
        """A step of a workflow manager whose input is the study, but for its last `skip` images."""
        step = Dataset()
        step.ProcedureStepState, step.InputReadinessState = "SCHEDULED", readiness
        step.PatientName, step.ProcedureStepLabel = "Doe^Jane", "Segment"
        step.InputInformationSequence = []
        images = self.images[: len(self.images) - skip]
        for series in dict.fromkeys(series for series, _ in images):
            item = Dataset()
            item.TypeOfInstances, item.StudyInstanceUID, item.SeriesInstanceUID = "DICOM", self.uid, series
            item.ReferencedSOPSequence = [reference(uid) for of, uid in images if of == series]
            step.InputInformationSequence.append(item)
        return step

    def available(self) -> Dataset:
        notice = Dataset()
        notice.StudyInstanceUID = self.uid
        notice.ReferencedPerformedProcedureStepSequence = []
        notice.ReferencedSeriesSequence = []
        for series, uids in self.series.items():
            item = Dataset()
            item.SeriesInstanceUID = series
            item.ReferencedSOPSequence = [reference(uid) for uid in uids]
            notice.ReferencedSeriesSequence.append(item)
        return notice


def reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
    item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "PACS"
    return item


@contextmanager
def associated(port: int, calling: str = "SCANNER") -> Iterator[Association]:
    """A scripted peer that notifies."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(MPPS)
    ae.add_requested_context(AVAILABILITY)
    ae.add_requested_context(UPS_PUSH)
    association = ae.associate("127.0.0.1", port, ae_title="PREREAD")
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def begin_step(association: Association, study: Study, step: str) -> int:
    status, _ = association.send_n_create(study.begun(), MPPS, step)
    return int(status.Status)


def end_step(association: Association, study: Study, step: str, status: str = "COMPLETED") -> int:
    answer, _ = association.send_n_set(study.ended(status), MPPS, step)
    return int(answer.Status)


def notify(association: Association, study: Study, uid: str | None = None) -> Dataset:
    status, _ = association.send_n_create(study.available(), AVAILABILITY, uid)
    return status


def push(association: Association, step: Dataset, uid: str) -> int:
    status, _ = association.send_n_create(step, UPS_PUSH, uid)
    return int(status.Status)


def patiently(ask: Callable[[], tuple[Dataset, Dataset | None]]) -> tuple[Dataset, Dataset | None]:
    """The answer, once the recorder of a busy machine had the time to look: a peer tries again, too."""
    answers: list[tuple[Dataset, Dataset | None]] = []

    def is_known() -> bool:
        answers.append(ask())
        return int(answers[-1][0].Status) != 0x0213

    wait_until(is_known, what="what is known of the step")
    return answers[-1]


def cancel(association: Association, uid: str, action: int = 2) -> int:
    status, _ = patiently(lambda: association.send_n_action(None, action, UPS_PUSH, uid))
    return int(status.Status)


def pushed_state(association: Association, uid: str) -> tuple[int, str, str]:
    """Status, state and readiness, as its creator gets them."""
    asked = [Tag(name) for name in ("ProcedureStepState", "InputReadinessState")]
    status, step = patiently(lambda: association.send_n_get(asked, UPS_PUSH, uid))
    step = step or Dataset()
    return (
        int(status.Status),
        str(step.get("ProcedureStepState", "")),
        str(step.get("InputReadinessState", "")),
    )


def closing_words(db: Database, study: Study) -> tuple[str, str]:
    """Who or what closed the study, and the words on its timeline."""
    wait_until(lambda: state_of(db, study.uid) == "whole", what="the study's end")
    (event,) = [event for event in seen(db, study.uid).events if event.kind == "whole"]
    return event.source, event.text


def told(db: Database, study: Study) -> list[str]:
    return [event.text for event in seen(db, study.uid).events if event.kind == "stated"]


def test_study_closes_at_once_when_its_step_completes_though_the_quiet_period_is_minutes(
    tmp_path: Path, database_url: str
) -> None:
    study, step = Study(), new_uid()
    with (
        ListenerProcess(tmp_path, database_url, peers=(SCANNER, PACS), listener=MINUTES) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port) as scanner:
            assert begin_step(scanner, study, step) == 0
            study.send(node.port)
            assert end_step(scanner, study, step) == 0
        assert closing_words(db, study) == (
            "mpps",
            "whole: procedure step of SCANNER: all 3 instances named are here",
        )
        assert not seen(db, study.uid).study.partial
        assert told(db, study)[-1] == "SCANNER: procedure step completed: 3 instances in 2 series"
        assert [job.kind for job in seen(db, study.uid).jobs if not job.is_early_plan] == ["plan"]


def test_study_closes_with_its_last_image_when_the_archive_notified_before(tmp_path: Path) -> None:
    study = Study()
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, PACS), listener=MINUTES) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port, "PACS") as archive:
            assert notify(archive, study).Status == 0
            assert notify(archive, study, new_uid()).Status == 0
        study.send(node.port, skip=1)
        wait_until(lambda: state_of(db, study.uid) == "receiving")
        study.send(node.port)
        assert closing_words(db, study)[0] == "ian"
        command = [sys.executable, "-m", "preread", "studies", "show", study.uid]
        shown = subprocess.run(
            [*command, "--config", str(node.folder / "preread.yaml")],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
        ).stdout
    timeline = shown[shown.index("Timeline") :]
    assert "PACS: availability notice: 3 instances in 2 series" in timeline
    assert "whole: availability notice of PACS: all 3 instances named are here" in timeline
    assert "Doe" not in timeline


def test_acknowledged_notice_survives_a_kill_and_is_kept_once(tmp_path: Path, database_url: str) -> None:
    study, step = Study(), new_uid()
    node = ListenerProcess(tmp_path, database_url, peers=(SCANNER, PACS), listener=MINUTES)
    with node, associated(node.port) as scanner:
        assert begin_step(scanner, study, step) == 0
        assert end_step(scanner, study, step) == 0
        node.kill()
    with node, closing(node.open_database()) as db:
        study.send(node.port)
        assert closing_words(db, study)[0] == "mpps"
        with associated(node.port) as scanner:  # a peer that saw no answer says it again
            assert begin_step(scanner, study, step) == 0
            assert end_step(scanner, study, step) == 0
        late = Study(uid=study.uid)
        late.send(node.port)
        wait_until(lambda: state_of(db, study.uid) == "receiving", what="the next revision")
        (notice,) = notices_of_receiving(db)[study.uid]
        assert (notice.state, sum(map(len, notice.named.values()))) == ("completed", 3)


def test_study_closes_when_all_input_that_a_manager_listed_is_here(tmp_path: Path, database_url: str) -> None:
    study, first, second = Study(), new_uid(), new_uid()
    ours = input_item(study, own_uid(b"our series"), [own_uid(b"a result")])
    node = ListenerProcess(tmp_path, database_url, peers=(SCANNER, PACS), listener=MINUTES)
    with node, associated(node.port) as manager:
        assert push(manager, study.pushed("INCOMPLETE", skip=1), first) == 0
        assert pushed_state(manager, first) == (0, "SCHEDULED", "INCOMPLETE")
        node.kill()
    with node, closing(node.open_database()) as db:
        study.send(node.port)
        with associated(node.port) as manager:
            assert pushed_state(manager, first) == (0, "SCHEDULED", "INCOMPLETE")
            part, rest = study.pushed(skip=1), study.pushed()
            rest.InputInformationSequence = [*rest.InputInformationSequence[1:], ours]
            assert push(manager, part, second) == 0
            assert push(manager, rest, first) == 0, "now ready, and what the other list lacks"
            assert pushed_state(manager, first) == (0, "SCHEDULED", "READY")
        assert closing_words(db, study) == (
            "ups",
            "whole: unified procedure step of SCANNER: all 3 instances named are here",
        )
        assert told(db, study) == [
            "SCANNER: unified procedure step, its input incomplete: 2 instances in 1 series",
            "SCANNER: unified procedure step, its input ready: 2 instances in 1 series",
            "SCANNER: unified procedure step, its input ready: 1 instance in 1 series",
        ]
        assert node.terminate() == 0
        assert not any(b"Doe" in item.meta for item in node.replayed())


def input_item(study: Study, series: str, uids: Sequence[str]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.SeriesInstanceUID = study.uid, series
    item.ReferencedSOPSequence = [reference(uid) for uid in uids]
    return item


def test_step_that_is_cancelled_is_not_waited_for_and_only_its_creator_knows_it(tmp_path: Path) -> None:
    study, step, unknown = Study(), new_uid(), new_uid()
    listener = {"quiet_seconds": 0.2}  # and an hour for what is missing
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, PACS, VIEWER), listener=listener) as node,
        closing(node.open_database()) as db,
        associated(node.port) as manager,
    ):
        assert push(manager, study.pushed(), step) == 0
        study.send(node.port, skip=1)
        wait_until(lambda: state_of(db, study.uid) and told(db, study), what="the study and its step")
        assert state_of(db, study.uid) == "receiving"
        with associated(node.port, "PACS") as other:
            assert cancel(other, step) == 0xC307
            assert pushed_state(other, step) == (0xC307, "", "")
        assert cancel(manager, unknown) == 0xC307
        assert cancel(manager, step) == 0
        assert closing_words(db, study)[0] == "quiet"
        assert cancel(manager, step) == 0xB304
        assert pushed_state(manager, step) == (0x0001, "CANCELED", "")
        assert told(db, study)[-1] == "SCANNER: unified procedure step canceled: 3 instances in 2 series"


def test_what_a_manager_may_not_ask_is_refused_by_name(tmp_path: Path) -> None:
    study, step = Study(), new_uid()
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, VIEWER), listener=MINUTES) as node,
        associated(node.port) as manager,
    ):
        with associated(node.port, "VIEWER") as viewer:
            assert push(viewer, study.pushed(), step) == 0x0124
            assert (cancel(viewer, step), pushed_state(viewer, step)[0]) == (0x0124, 0x0124)
        begun, no_list = study.pushed(), study.pushed()
        begun.ProcedureStepState = "IN PROGRESS"
        del no_list.InputInformationSequence
        assert push(manager, begun, step) == 0xC309
        assert push(manager, no_list, step) == 0x0120
        assert push(manager, study.pushed("SOON"), step) == 0x0106
        assert pushed_state(manager, step)[0] == 0xC307, "nothing of it was kept"
        assert push(manager, study.pushed(), step) == 0
        assert (cancel(manager, step, 1), cancel(manager, step, 3)) == (0x0123, 0xC315)
        status, _ = manager.send_n_set(study.pushed(), UPS_PUSH, step)
        assert status.Status == 0x0211
        ((status, _),) = manager.send_c_find(study.pushed(), UPS_PUSH)
        assert status.Status == 0x0122
        status, _ = manager.send_n_get([], MPPS, step)
        assert status.Status == 0x0211
        status, found = patiently(lambda: manager.send_n_get([], UPS_PUSH, step))
        assert found is not None
        assert (status.Status, found.SOPInstanceUID, found.ProcedureStepState) == (1, step, "SCHEDULED")
        assert node.terminate() == 0
        kept = [json.loads(item.meta) for item in node.replayed()]
        assert [(meta["notice"], meta["state"]) for meta in kept] == [("ups", "input_ready")]


@pytest.mark.parametrize("status", [None, "DISCONTINUED"])
def test_study_that_stays_incomplete_is_closed_as_partial_and_says_why(
    tmp_path: Path, status: str | None
) -> None:
    study, step = Study(), new_uid()
    listener = {"quiet_seconds": 0.2, "missing_minutes_max": 0.02}
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, PACS), listener=listener) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port) as scanner:
            assert begin_step(scanner, study, step) == 0
            if status:
                assert end_step(scanner, study, step, status) == 0
        study.send(node.port, skip=1 if status else 0)
        source, words = closing_words(db, study)
        why = "1 instance stated by SCANNER missing" if status else "step of SCANNER is still in progress"
        assert source == "timeout"
        assert words.startswith("closed as partial: nothing new for 0.02 min: ")
        assert words.endswith(why)
        assert seen(db, study.uid).study.partial
        (plan,) = [job for job in seen(db, study.uid).jobs if not job.is_early_plan]
        assert plan.parameters["partial"] is True


def test_study_of_which_the_listed_input_is_incomplete_is_closed_as_partial(tmp_path: Path) -> None:
    study = Study()
    listener = {"quiet_seconds": 0.2, "missing_minutes_max": 0.02}
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, PACS), listener=listener) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port) as manager:
            assert push(manager, study.pushed("INCOMPLETE"), new_uid()) == 0
        study.send(node.port)
        assert closing_words(db, study) == (
            "timeout",
            "closed as partial: nothing new for 0.02 min: the input that SCANNER listed is incomplete",
        )


def test_notices_nobody_may_send_or_read_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    study = Study()
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, PACS, VIEWER), listener=MINUTES) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port, "VIEWER") as viewer:
            status = notify(viewer, study)
            assert (status.Status, status.ErrorComment) == (0x0124, "may_send is false for this peer")
        with associated(node.port) as scanner:
            empty = study.begun()
            del empty.PerformedProcedureStepStatus
            status, _ = scanner.send_n_create(empty, MPPS, new_uid())
            assert status.Status == 0x0120
            nameless = study.available()
            del nameless.StudyInstanceUID
            status, _ = scanner.send_n_create(nameless, AVAILABILITY, new_uid())
            assert status.Status == 0x0120
            assert notify(scanner, study).Status == 0, "the association lives on"
        ae = AE(ae_title="STRANGER")
        ae.add_requested_context(MPPS)
        assert ae.associate("127.0.0.1", node.port, ae_title="PREREAD").is_rejected
        assert node.terminate() == 0
        kept = [json.loads(item.meta) for item in node.replayed()]
        assert [meta["notice"] for meta in kept] == ["ian"]
        assert notices_of_receiving(db) == {}


@pytest.mark.parametrize("start_early", [True, False])
def test_series_whose_step_ended_is_handed_over_while_the_study_still_receives(
    tmp_path: Path, start_early: bool
) -> None:
    study, step = Study(), new_uid()
    first, _ = study.series
    with (
        ListenerProcess(
            tmp_path, peers=(SCANNER, PACS), listener={**MINUTES, "start_early": start_early}
        ) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port) as scanner:
            assert begin_step(scanner, study, step) == 0
            assert end_step(scanner, study, step) == 0
        study.send(node.port, skip=1)
        if start_early:
            (job,) = wait_until(lambda: seen_jobs(db, study), what="the plan of the first series")
            assert job.is_early_plan
            assert job.parameters["early"]["whole"] == [first]
            assert state_of(db, study.uid) == "receiving"
        study.send(node.port)
        assert closing_words(db, study)[0] == "mpps"
        events = [(e.source, e.text) for e in seen(db, study.uid).events if e.kind == "series_whole"]
        words = "whole while the study still receives: procedure step of SCANNER names its 2 instances"
        assert events[:1] == ([("mpps", words)] if start_early else [])
        (plan,) = [job for job in seen_jobs(db, study) if not job.is_early_plan]
        assert plan.state == "queued"
        assert all(job.state == "cancelled" for job in seen_jobs(db, study) if job.is_early_plan)


def test_series_of_which_an_image_is_missing_is_never_begun(tmp_path: Path) -> None:
    study, step = Study(), new_uid()
    listener = {"quiet_seconds": 0.2, "missing_minutes_max": 0.02}
    with (
        ListenerProcess(tmp_path, peers=(SCANNER, PACS), listener=listener) as node,
        closing(node.open_database()) as db,
    ):
        with associated(node.port) as scanner:
            assert begin_step(scanner, study, step) == 0
            assert end_step(scanner, study, step) == 0
        study.send(node.port, skip=2)
        assert closing_words(db, study)[0] == "timeout"
        assert [job.is_early_plan for job in seen_jobs(db, study)] == [False]


def seen_jobs(db: Database, study: Study) -> Sequence[JobRecord]:
    return seen(db, study.uid).jobs if state_of(db, study.uid) else ()


def test_quiet_period_is_learnt_from_the_studies_that_are_here(tmp_path: Path) -> None:
    study = Study()
    learning = {"quiet_learnt": True, "quiet_learnt_seconds_min": 1, "quiet_learnt_studies_min": 2}
    node = ListenerProcess(tmp_path, peers=(SCANNER, PACS), listener={**MINUTES, **learning})
    node.state_folder.mkdir()
    with closing(node.open_database()) as db:
        db.migrate()
        for number in range(2):
            earlier = [earlier_instance(f"1.2.{number}", received_at=100.0 + n / 5) for n in range(3)]
            record_batch(db, earlier, None)
            record = seen(db, f"1.2.{number}").study
            close_study(db, record.id, 1, how="quiet", partial=False, evidence_text="an earlier day")
    with node, closing(node.open_database()) as db:
        study.send(node.port)
        assert closing_words(db, study) == (
            "quiet",
            "whole: no new instance for 1 s (learnt from 2 studies of PACS), 3 instances",
        )


def earlier_instance(study: str, *, received_at: float) -> ReceivedInstance:
    uid, at = new_uid(), Location("instances", 1, 1, 4096, 10)
    who = ("1.2.840.10008.1.2.1", "PACS", "PREREAD", "127.0.0.1", received_at, at, "00", False, True)
    return ReceivedInstance(uid, CT, study, f"{study}.1", *who, {"Modality": "CT"})


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    need_installed("Orthanc")
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), may_ask=["PREREAD"]) as archive:
        yield archive


def asking(orthanc: Orthanc) -> dict[str, Any]:
    return {
        "name": "orthanc",
        "ae_title": ORTHANC_AE,
        "host": "127.0.0.1",
        "port": orthanc.dicom_port,
        "ask_counts": True,
    }


def test_study_waits_for_what_its_archive_counts_and_closes_when_it_is_here(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    study, ours = Study(), own_uid(b"a result")
    study.send(orthanc.dicom_port, called=ORTHANC_AE)
    with Peer(orthanc.dicom_port).associate(associate_request(called=ORTHANC_AE)) as peer:
        assert peer.store(ours, ct_dataset(ours, study=study.uid, series=own_uid(b"its series"))) == 0
    with (
        ListenerProcess(tmp_path, peers=(asking(orthanc),), listener={"quiet_seconds": 30}) as node,
        closing(node.open_database()) as db,
    ):
        study.send(node.port, calling=ORTHANC_AE, skip=1)
        wait_until(lambda: state_of(db, study.uid) and told(db, study), what="the archive's count")
        assert told(db, study) == ["ORTHANC counts 3 instances, 2 here"]
        study.send(node.port, calling=ORTHANC_AE)
        assert closing_words(db, study) == (
            "find",
            "whole: ORTHANC counts 3 instances, asked twice; all are here",
        )
        assert seen(db, study.uid).study.revision == 1
