"""Every study ends with result objects or with one coded reason."""

import pytest
from pipeline_node import BRAIN, BREAST, TEST_BRAIN, TEST_BREAST, breast_image, flair_slices
from pydicom.dataset import Dataset

from db.instances import ByteStore, instances_of, series_of
from models.package import load_package
from models.predictor import Predictor
from pipeline.assignment import AnalyseAssignment, Analysis, Plan, PlanAssignment, StudyImages
from pipeline.read_study import analyse_study, plan_early, plan_study
from pipeline.reading.refusals import refuse
from pipeline.write_results import report_refused_analysis, report_refused_plan, write_results


@pytest.fixture(scope="session")
def both(packages):
    return [load_package(packages / model) for model in (BRAIN, BREAST)]


@pytest.fixture
def study(node):
    """Receive datasets and give the rows of their study, with what reads its bytes."""

    def receive(datasets):
        (uid,) = node.receive(datasets)
        record = node.view(uid).study
        images = StudyImages(
            record.id,
            uid,
            record.revision,
            tuple(instances_of(node.database, record.id)),
            tuple(series_of(node.database, record.id)),
        )
        return images, ByteStore(node.settings.spool_folder).read

    return receive


@pytest.fixture
def analyse(node, both, study):
    def run(datasets, *, bytes_max=1 << 28):
        images, read = study(datasets)
        plan = plan_study(images, both, read)
        ((model, series),) = plan.analyses
        package = next(p for p in both if p.manifest.id == model)
        assignment = AnalyseAssignment(
            images, model, series, node.view(images.study_uid).jobs[0].created_at, ()
        )
        stages = []

        def write(sources, predictions):
            return write_results(assignment, package, 0, sources, predictions, node.settings, read)

        predictor = Predictor(package, device="cpu")
        analysis = analyse_study(
            assignment, predictor, write, read_bytes=read, stage=stages.append, bytes_max=bytes_max
        )
        return analysis, stages

    return run


def test_plan_takes_the_flair_series_and_keeps_a_reason_for_the_others(study, both):
    slices = [*flair_slices("1.2.1", series=1, description="AX T1"), *flair_slices("1.2.1", series=2)]
    images, read = study(slices)
    plan = plan_study(images, both, read)
    assert plan.analyses == ((TEST_BRAIN, ("1.2.1.2",)),)
    assert plan.refusal is None
    told = {(c.model, c.series_uid): (c.taken, c.code) for c in plan.choices}
    assert told[TEST_BRAIN, "1.2.1.2"] == (True, None)
    assert told[TEST_BRAIN, "1.2.1.1"] == (False, "NOT-FLAIR")
    assert told[TEST_BREAST, "1.2.1.1"][0] is False
    assert len(told) == 4


def test_second_candidate_is_taken_when_the_first_has_a_missing_slice(study, both):
    broken = flair_slices("1.2.1", series=1)
    del broken[3]
    spare = [s for s in flair_slices("1.2.1", series=2) if s.InstanceNumber <= 5]
    images, read = study([*broken, *spare])
    plan = plan_study(images, both, read)
    assert plan.analyses == ((TEST_BRAIN, ("1.2.1.2",)),)
    codes = {c.series_uid: c.code for c in plan.choices if c.model == TEST_BRAIN}
    assert codes == {"1.2.1.1": "MISSING-SLICE", "1.2.1.2": None}


def early(study, both, datasets, *whole):
    images, read = study(datasets)
    return plan_early(images, frozenset(whole), both, read).analyses


def test_model_begins_with_its_series_when_it_is_whole_and_others_still_come(study, both):
    slices = [*flair_slices("1.2.1", series=2), *flair_slices("1.2.1", series=1, description="AX T1")[:3]]
    assert early(study, both, slices, "1.2.1.2") == ((TEST_BRAIN, "1.2.1.2"),)


def test_no_model_begins_with_a_series_that_is_not_whole_or_that_it_does_not_want(study, both):
    slices = [*flair_slices("1.2.1", series=2), *flair_slices("1.2.1", series=1, description="AX T1")]
    assert early(study, both, slices, "1.2.1.1") == ()


def test_model_waits_for_a_series_that_may_yet_be_preferred(study, both):
    # Of the second so few slices came that it does not fit yet.
    slices = [*flair_slices("1.2.1", series=1), *flair_slices("1.2.1", series=2)[:2]]
    assert early(study, both, slices, "1.2.1.1") == ()


def test_model_begins_beside_a_series_that_it_would_not_prefer(study, both):
    derived = flair_slices("1.2.1", series=2)[:5]
    for image in derived:
        image.ImageType = ["DERIVED", "SECONDARY", "M"]
    slices = [*flair_slices("1.2.1", series=1), *derived]
    assert early(study, both, slices, "1.2.1.1") == ((TEST_BRAIN, "1.2.1.1"),)


def test_model_begins_with_the_best_of_those_that_are_whole(study, both):
    broken = flair_slices("1.2.1", series=1)
    del broken[3]
    spare = [s for s in flair_slices("1.2.1", series=2) if s.InstanceNumber <= 5]
    assert early(study, both, [*broken, *spare], "1.2.1.1", "1.2.1.2") == ((TEST_BRAIN, "1.2.1.2"),)


def test_series_without_a_good_stack_is_left_to_the_plan_of_the_whole_study(study, both):
    broken = flair_slices("1.2.1")
    del broken[3]
    assert early(study, both, broken, "1.2.1.1") == ()


def test_model_of_still_images_needs_the_whole_study(study, both):
    assert early(study, both, [breast_image("1.2.1")], "1.2.1.1") == ()


def test_study_no_model_wants_is_refused_with_every_reason(study, both):
    slices = flair_slices("1.2.1")
    for image in slices:
        image.Modality, image.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
    images, read = study(slices)
    plan = plan_study(images, both, read)
    assert plan.analyses == ()
    assert plan.refusal.code == "NO-MODEL"
    assert TEST_BRAIN in plan.refusal.sentence
    assert TEST_BREAST in plan.refusal.sentence


def test_study_without_images_is_refused_as_such(study, both):
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.1.1.1"
    report.StudyInstanceUID, report.SeriesInstanceUID, report.Modality = "1.2.1", "1.2.1.1", "SR"
    images, read = study([report])
    plan = plan_study(images, both, read)
    assert plan.refusal.code == "NOT-AN-IMAGE"


def test_study_is_refused_when_no_package_runs(study):
    images, read = study(flair_slices("1.2.1"))
    assert plan_study(images, [], read).refusal.code == "NO-PACKAGE"


def test_volume_is_read_predicted_and_written(analyse):
    analysis, stages = analyse(flair_slices("1.2.1"))
    assert analysis.refusal is None
    assert stages == ["reading", "predicting", "writing"]
    assert {item.kind for item in analysis.objects} == {"SEG", "SR", "SC"}
    assert analysis.findings["lesions"]
    assert analysis.findings["series_uid"] == "1.2.1.1"


def test_same_analysis_twice_makes_the_same_bytes(analyse, node):
    first, _ = analyse(flair_slices("1.2.1"))
    again, _ = analyse(flair_slices("1.2.1"))
    assert [(o.sop_uid, o.part10) for o in first.objects] == [(o.sop_uid, o.part10) for o in again.objects]


def test_still_images_are_read_one_by_one(analyse):
    images = [breast_image("1.2.1", sop_uid=f"1.2.1.1.{k}") for k in (1, 2)]
    analysis, _ = analyse(images)
    assert analysis.refusal is None
    assert analysis.findings["class"] in ("benign", "malignant", "normal")
    assert {item.kind for item in analysis.objects} >= {"SR", "SC"}


def test_image_that_cannot_be_decoded_is_left_out_and_noted(analyse):
    bad = breast_image("1.2.1", sop_uid="1.2.1.1.2")
    bad.PixelData = bad.PixelData[:100]
    analysis, _ = analyse([breast_image("1.2.1"), bad])
    assert analysis.refusal is None
    assert any("1.2.1.1.2" in note for note in analysis.findings["notes"])


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda s: s.pop(3), "MISSING-SLICE"),
        (lambda s: setattr(s[3], "PixelData", b"\0\0"), "PIXELS-UNREADABLE"),
        (lambda s: setattr(s[2], "PixelSpacing", [0.5, 0.5]), "MIXED-SPACING"),
        (lambda s: [setattr(i, "PixelSpacing", [3, 3]) for i in s], "PIXEL-SPACING"),
        (lambda s: [setattr(i, "PixelData", bytes(len(i.PixelData))) for i in s], "MODEL-REFUSED"),
    ],
)
def test_series_that_cannot_be_read_is_not_analysed_with_its_reason(damage, code, analyse):
    slices = flair_slices("1.2.1")
    damage(slices)
    analysis, _ = analyse(slices)
    assert analysis.refusal.code == code
    assert analysis.objects == ()


def test_volume_beyond_the_memory_share_is_refused_before_decoding(analyse):
    analysis, stages = analyse(flair_slices("1.2.1"), bytes_max=1 << 10)
    assert analysis.refusal.code == "PIXELS-TOO-LARGE"
    assert stages == ["reading"]


def test_refusal_is_reported_where_the_site_wants_it(node, both, study):
    wanted = node.settings.model_copy(
        update={"results": node.settings.results.model_copy(update={"not_analysed_report": True})}
    )
    slices = flair_slices("1.2.1")
    del slices[3]
    images, read = study(slices)
    created_at = node.view(images.study_uid).jobs[0].created_at
    assignment = AnalyseAssignment(images, TEST_BRAIN, ("1.2.1.1",), created_at, ())
    refused = Analysis(refuse("NO-PACKAGE"), {}, ())
    told = report_refused_analysis(assignment, both[0], 0, refused, wanted, read)
    assert [item.kind for item in told.objects] == ["SR"]
    assert report_refused_analysis(assignment, both[0], 0, refused, node.settings, read) == refused
    plan = Plan((), (), refuse("NO-PACKAGE"))
    (report,) = report_refused_plan(PlanAssignment(images, created_at), plan, wanted, read).objects
    assert report.sop_class == "1.2.840.10008.5.1.4.1.1.88.34"
