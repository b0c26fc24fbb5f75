"""Studies whose headers are silent or wrong: what a sorter changes, and that without one nothing changes."""

import pytest
from pipeline_node import BRAIN, BREAST, TEST_BRAIN, TEST_BREAST, breast_image, flair_slices
from tiny_sorter import write_sorter

from db.instances import ByteStore, instances_of, series_of
from models.package import load_package
from models.predictor import Predictor
from models.sorting.sorter import Sorter
from pipeline.assignment import AnalyseAssignment, StudyImages
from pipeline.packages import offer_of
from pipeline.read_study import analyse_study, plan_study
from pipeline.reading.series_eye import SeriesEye
from pipeline.write_results import write_results

FLAIR_HEAD = {"body_part": "head", "modality": "mr_flair"}
BREAST_US = {"body_part": "breast", "modality": "ultrasound"}


@pytest.fixture(scope="session")
def both(packages):
    return [load_package(packages / model) for model in (BRAIN, BREAST)]


@pytest.fixture
def eye(tmp_path):
    def make(answers, *, may_stand_in=True, score=0.99):
        package = write_sorter(tmp_path / f"sorter-{len(answers)}", answers, score=score)
        return SeriesEye(Sorter(package), may_stand_in, 1 << 28)

    return make


@pytest.fixture
def planned(node, both):
    def run(datasets, eye):
        (uid,) = node.receive(datasets)
        record = node.view(uid).study
        images = StudyImages(
            record.id,
            uid,
            record.revision,
            tuple(instances_of(node.database, record.id)),
            tuple(series_of(node.database, record.id)),
        )
        read = ByteStore(node.settings.spool_folder).read
        return images, read, plan_study(images, both, read, eye=eye)

    return run


@pytest.fixture
def analysed(node, both, planned):
    def run(datasets, eye):
        images, read, plan = planned(datasets, eye)
        ((model, series),) = plan.analyses
        package = next(one for one in both if one.manifest.id == model)
        created_at = node.view(images.study_uid).jobs[0].created_at
        assignment = AnalyseAssignment(images, model, series, created_at, ())

        def write(sources, predictions):
            return write_results(assignment, package, 0, sources, predictions, node.settings, read)

        predictor = Predictor(package, device="cpu")
        return analyse_study(
            assignment,
            predictor,
            write,
            read_bytes=read,
            stage=lambda name: None,
            bytes_max=1 << 28,
            eye=eye,
        )

    return run


def silent_flair():
    slices = flair_slices("1.2.1", description="")
    for image in slices:
        del image.BodyPartExamined
    return slices


def silent_breast():
    image = breast_image("1.2.1")
    image.BodyPartExamined = ""
    return [image]


def notes_of(analysis):
    return " ".join(analysis.findings["notes"])


def test_a_silent_series_is_left_alone_without_a_sorter_and_by_one_that_may_only_tell(planned, eye):
    assert planned(silent_flair(), None)[2].analyses == ()
    assert planned(silent_flair(), eye(FLAIR_HEAD, may_stand_in=False))[2].analyses == ()


def test_a_silent_series_is_taken_for_its_pixels_and_the_findings_say_so(planned, analysed, eye):
    looking = eye(FLAIR_HEAD)
    _, _, plan = planned(silent_flair(), looking)
    assert plan.analyses == ((TEST_BRAIN, ("1.2.1.1",)),)
    (taken,) = [choice for choice in plan.choices if choice.taken]
    assert "technique judged from the pixels: MR FLAIR, 0.99 (test-sorter 1.0.0)" in taken.sentence
    analysis = analysed(silent_flair(), looking)
    assert analysis.refusal is None
    assert "chosen by its pixels: technique judged from the pixels: MR FLAIR" in notes_of(analysis)


@pytest.mark.parametrize(
    ("answers", "score"),
    [({"body_part": "head", "modality": "mr_t1"}, 0.99), (FLAIR_HEAD, 0.8), ({}, 0.9)],
    ids=["other-sequence", "not-sure", "unknown"],
)
def test_other_or_unsure_answers_take_nothing(planned, eye, answers, score):
    assert planned(silent_flair(), eye(answers, score=score))[2].analyses == ()


def test_a_silent_still_image_is_read_in_plan_and_analysis(planned, analysed, eye):
    assert planned(silent_breast(), None)[2].analyses == ()
    looking = eye(BREAST_US)
    assert planned(silent_breast(), looking)[2].analyses == ((TEST_BREAST, ("1.2.1.1",)),)
    analysis = analysed(silent_breast(), looking)
    assert analysis.refusal is None
    assert "body part judged from the pixels: breast, 0.99" in notes_of(analysis)


@pytest.mark.parametrize("may_stand_in", [True, False], ids=["stand-in", "tell"])
def test_a_study_whose_header_contradicts_its_pixels_is_analysed_and_says_so(analysed, eye, may_stand_in):
    analysis = analysed(flair_slices("1.2.1"), eye(BREAST_US, may_stand_in=may_stand_in))
    assert analysis.refusal is None
    assert "another body part than the header says: breast, 0.99 (test-sorter 1.0.0)" in notes_of(analysis)
    assert "another technique than the header says: ultrasound" in notes_of(analysis)


def test_a_study_whose_header_and_pixels_agree_is_analysed_as_without_a_sorter(analysed, eye):
    plain = analysed(flair_slices("1.2.1"), None)
    looked = analysed(flair_slices("1.2.1"), eye(FLAIR_HEAD))
    assert looked.findings["notes"] == plain.findings["notes"]
    assert [one.part10 for one in looked.objects] == [one.part10 for one in plain.objects]


def test_pixels_that_cannot_be_read_leave_the_refusal_as_it_was(planned, eye):
    slices = silent_flair()
    for image in slices:
        image.PixelData = b"\0\0"
    _, _, without = planned(slices, None)
    _, _, looked = planned(slices, eye(FLAIR_HEAD))
    assert looked.refusal == without.refusal


def test_a_sorter_is_offered_where_its_digest_is_accepted_and_pixels_are_not_off(node, tmp_path):
    package = write_sorter(tmp_path / "mine" / "test-sorter", FLAIR_HEAD)

    def offered(**packages):
        changed = node.settings.packages.model_copy(
            update={"folders": (tmp_path / "mine",), "enabled": None, **packages}
        )
        offer = offer_of(node.settings.model_copy(update={"packages": changed}))
        mine = [error for name, error in offer.refused if name == "test-sorter"]
        return offer.sorter if offer.sorter and offer.sorter.manifest.id == "test-sorter" else None, mine

    digest = {"test-sorter": package.digest}
    assert offered(accepted=digest, enabled=("test-sorter",))[0] == package
    found, refused = offered(accepted={}, enabled=("test-sorter",))
    assert found is None
    assert "not accepted" in str(refused[0])
    assert offered(accepted=digest, enabled=())[0] is None
    assert offered(accepted=digest, pixels="off") == (None, [])
