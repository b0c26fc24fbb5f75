"""A package of named structures on the real path: a study in; SEG, report, picture and page out.

The network is set by hand (tests/two_ranges.py), so every volume is known to the voxel.
"""

import shutil
import subprocess
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
import torch
from installed_tools import tool
from PIL import Image
from pipeline_node import make_node
from pydicom import dcmread
from pydicom.dataset import Dataset
from starlette.testclient import TestClient
from two_ranges import PACKAGE_ID, crop_slices, truth_of, two_parts, write_two_ranges

from db.instances import ByteStore
from db.studies import has_findings
from models.screen_colours import to_rgb
from pipeline.worker import run_worker
from preread.web.app import create_app

SPACING = (2.0, 0.9, 0.8)
VOXEL_ML = 2.0 * 0.9 * 0.8 / 1000
BOTH, NO_POSTERIOR, NOTHING, HEAD = "1.2.1", "1.2.2", "1.2.3", "1.2.4"
COLOURS = (to_rgb((70.0, 45.0, 55.0)), to_rgb((70.0, -40.0, -20.0)))


@dataclass
class Read:
    """A node after one worker read four studies."""

    node: object
    images: dict[str, np.ndarray]
    store: ByteStore
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def findings(self, study_uid: str) -> dict:
        (job,) = [job for job in self.node.view(study_uid).jobs if job.kind == "analyse"]
        return job.findings

    def kinds(self, study_uid: str) -> list[str]:
        return [result.kind for result in self.node.view(study_uid).results]

    def part10(self, study_uid: str, kind: str) -> bytes:
        (result,) = [one for one in self.node.view(study_uid).results if one.kind == kind]
        return self.store.read(result.location)

    def dataset(self, study_uid: str, kind: str) -> Dataset:
        return dcmread(BytesIO(self.part10(study_uid, kind)))


@pytest.fixture(scope="module")
def read(tmp_path_factory, _sqlite_template):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("structures")
    write_two_ranges(folder / "packages" / PACKAGE_ID)
    (folder / "state").mkdir()
    shutil.copy(_sqlite_template, folder / "state" / "preread.db")
    node = make_node(
        folder,
        f"sqlite:///{folder / 'state' / 'preread.db'}",
        package_folder=folder / "packages",
        web={"port": 0},
    )
    images = {
        BOTH: two_parts(),
        NO_POSTERIOR: two_parts(posterior=False),
        NOTHING: np.minimum(two_parts(), 140),
        HEAD: two_parts((10, 160, 160)),
    }
    for study_uid, image in images.items():
        node.receive(crop_slices(study_uid, image, spacing_mm=SPACING))
    assert run_worker(node.settings, name="w", once=True) == 0
    yield Read(node, images, ByteStore(node.settings.spool_folder))
    node.close()


def masks_of(seg: Dataset, image: np.ndarray) -> dict[int, np.ndarray]:
    """(slices, rows, columns) of each segment, laid on the images by the references alone."""
    frames = len(seg.PerFrameFunctionalGroupsSequence)
    bits = np.unpackbits(
        np.frombuffer(seg.PixelData, np.uint8), count=frames * seg.Rows * seg.Columns, bitorder="little"
    ).reshape(frames, seg.Rows, seg.Columns)
    found = {int(item.SegmentNumber): np.zeros(image.shape, bool) for item in seg.SegmentSequence}
    for group, plane in zip(seg.PerFrameFunctionalGroupsSequence, bits, strict=True):
        uid = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[number][int(uid.rsplit(".", 1)[1]) - 1] = plane
    return found


def groups_of(report: Dataset) -> list[Dataset]:
    """The measurement groups of a report."""
    (measurements,) = [
        one for one in report.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    return list(measurements.ContentSequence)


def children(group: Dataset, concept: str) -> list[Dataset]:
    return [one for one in group.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == concept]


def texts_of(report: Dataset) -> list[str]:
    return [one.TextValue for group in groups_of(report) for one in children(group, "121106")]


def test_segmentation_has_one_segment_for_each_structure_exact_to_the_voxel(read):
    seg, truth = read.dataset(BOTH, "SEG"), truth_of(read.images[BOTH])
    masks = masks_of(seg, truth)
    assert sorted(masks) == [1, 2]
    assert np.array_equal(masks[1], truth == 1)
    assert np.array_equal(masks[2], truth == 2)
    assert masks[1].sum() > 200
    assert masks[2].sum() > 200
    first, second = seg.SegmentSequence
    assert [one.SegmentLabel for one in (first, second)] == ["Hippocampus anterior", "Hippocampus posterior"]
    for one, part in ((first, "255549009"), (second, "255551008")):
        kind = one.SegmentedPropertyTypeCodeSequence[0]
        assert kind.CodeValue == "5366008"
        modifiers = [code.CodeValue for code in kind.SegmentedPropertyTypeModifierCodeSequence]
        assert modifiers == [part, "7771000"]
        assert one.SegmentAlgorithmType == "AUTOMATIC"
        assert one.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == PACKAGE_ID
    assert list(first.RecommendedDisplayCIELabValue) != list(second.RecommendedDisplayCIELabValue)
    assert seg.ContentLabel == "AI_STRUCTURES"


def test_highdicom_reads_the_same_structures_back(read):
    seg = highdicom.seg.segread(BytesIO(read.part10(BOTH, "SEG")))
    truth = truth_of(read.images[BOTH])
    uids = [f"{BOTH}.1.{index + 1}" for index in range(len(truth))]
    pixels = seg.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True, combine_segments=True
    )
    assert np.array_equal(pixels, truth)
    report = highdicom.sr.srread(BytesIO(read.part10(BOTH, "SR")))
    assert len(report.content.get_volumetric_roi_measurement_groups()) == 2
    assert len(report.content.get_planar_roi_measurement_groups()) == 2


def test_report_measures_each_structure_and_cites_its_segment(read):
    seg, report = read.dataset(BOTH, "SEG"), read.dataset(BOTH, "SR")
    truth = truth_of(read.images[BOTH])
    volumes = {}
    for group in groups_of(report):
        references = children(group, "121191")
        if not references:
            continue
        reference = references[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        (volume,) = children(group, "118565006")
        value = volume.MeasuredValueSequence[0]
        assert value.MeasurementUnitsCodeSequence[0].CodeValue == "mL"
        volumes[int(reference.ReferencedSegmentNumber)] = float(value.NumericValue)
        assert not children(group, "103339001")  # no diameters
        (site,) = children(group, "363698007")
        modifier = {one.ConceptNameCodeSequence[0].CodeValue: one for one in site.ContentSequence}
        assert modifier["272741003"].ConceptCodeSequence[0].CodeMeaning == "Left"
        assert modifier["106233006"].ConceptCodeSequence[0].CodeMeaning in ("Anterior", "Posterior")
    counts = np.bincount(truth.ravel())
    assert volumes == {
        1: pytest.approx(counts[1] * VOXEL_ML, abs=6e-5),
        2: pytest.approx(counts[2] * VOXEL_ML, abs=6e-5),
    }
    tracked = {item.TrackingUID for item in seg.SegmentSequence}
    named = {one.UID for group in groups_of(report) for one in children(group, "112040")}
    assert tracked <= named
    total = (counts[1] + counts[2]) * VOXEL_ML
    assert any(text.startswith(f"Hippocampus, whole: {total:.2f} mL") for text in texts_of(report))
    assert any(text.startswith("Mean probability of the outlined voxels") for text in texts_of(report))


def test_findings_and_headline_tell_the_volumes(read):
    findings, counts = read.findings(BOTH), np.bincount(truth_of(read.images[BOTH]).ravel())
    anterior, posterior = (count * VOXEL_ML for count in counts[1:])
    assert findings["lesions"] == []
    assert findings["urgent"] is False
    assert [part["label"] for part in findings["structures"]["parts"]] == [
        "Hippocampus anterior",
        "Hippocampus posterior",
    ]
    assert [part["volume_ml"] for part in findings["structures"]["parts"]] == [
        pytest.approx(anterior, abs=6e-5),
        pytest.approx(posterior, abs=6e-5),
    ]
    (total,) = findings["structures"]["totals"]
    assert total["volume_ml"] == pytest.approx(anterior + posterior, abs=6e-5)
    words = f"Hippocampus anterior {anterior:.2f} mL, posterior {posterior:.2f} mL"
    assert findings["headline"] == words


def test_a_structure_that_was_not_outlined_has_no_segment_and_is_said_so(read):
    seg, report, findings = (
        read.dataset(NO_POSTERIOR, "SEG"),
        read.dataset(NO_POSTERIOR, "SR"),
        read.findings(NO_POSTERIOR),
    )
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Hippocampus anterior"]
    assert np.array_equal(
        masks_of(seg, read.images[NO_POSTERIOR])[1], truth_of(read.images[NO_POSTERIOR]) == 1
    )
    coded = [
        (group, one)
        for group in groups_of(report)
        for one in children(group, "OUTLINING")
        if one.ConceptCodeSequence[0].CodeValue == "NOT-OUTLINED"
    ]
    assert len(coded) == 1
    (name,) = children(coded[0][0], "112039")
    assert name.TextValue == "Hippocampus posterior"
    assert any("posterior: looked for and not outlined" in text for text in texts_of(report))
    assert any("whole: not given, a part was not outlined" in text for text in texts_of(report))
    assert findings["headline"].endswith("posterior not outlined")
    assert [part["found"] for part in findings["structures"]["parts"]] == [True, False]
    assert findings["structures"]["totals"][0]["volume_ml"] is None


def test_where_nothing_was_outlined_there_is_a_report_that_says_so_and_no_segmentation(read):
    assert read.kinds(NOTHING) == ["SR", "SC"]
    assert read.findings(NOTHING)["headline"] == "no structure outlined"
    assert has_findings(read.findings(NOTHING))  # "no finding" is nothing such a package says
    report = read.dataset(NOTHING, "SR")
    assert sum(bool(children(group, "OUTLINING")) for group in groups_of(report)) == 2
    # Nothing about presence or absence of a disease: the package looks for none.
    assert not any(children(group, "121052") for group in groups_of(report))


def test_a_whole_head_is_not_analysed_by_a_model_of_crops(read):
    view = read.node.view(HEAD)
    assert (view.study.outcome, view.study.reason_code) == ("not_analysed", "FIELD-OF-VIEW")
    (told,) = {one.sentence for one in view.selections}
    assert "144 x 128 mm" in told
    assert "SEG" not in read.kinds(HEAD)


@pytest.mark.parametrize("study_uid", [BOTH, NO_POSTERIOR, NOTHING])
def test_every_object_is_free_of_errors(read, study_uid, tmp_path):
    for kind in read.kinds(study_uid):
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(read.part10(study_uid, kind))
        told = subprocess.run([tool("dciodvfy"), "-new", path], capture_output=True, text=True, check=False)
        errors = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], kind
        if kind == "SR":
            dump = subprocess.run([tool("dsrdump"), "-Er", path], capture_output=True, text=True, check=False)
            assert dump.returncode == 0
            assert "E:" not in dump.stderr


def near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=2) < tolerance


def test_picture_shows_each_structure_in_its_colour_beside_a_legend(read):
    for study_uid, drawn in ((BOTH, (True, True)), (NO_POSTERIOR, (True, False)), (NOTHING, (False, False))):
        picture = np.asarray(read.dataset(study_uid, "SC").pixel_array)
        for colour, is_drawn in zip(COLOURS, drawn, strict=True):
            outlined = near(picture[128:680, 28:840], colour).sum()
            legend = near(picture[128:300, 868:900], colour).sum()
            assert (outlined > 200, legend > 100) == (is_drawn, is_drawn), (study_uid, colour)


@pytest.fixture
def page(read):
    client = TestClient(
        create_app(read.node.settings, read.node.database),
        base_url="http://127.0.0.1:8042",
        headers={"accept": "text/html"},
    )
    yield client
    client.close()


def test_page_lists_and_draws_the_structures(read, page):
    headline = read.findings(BOTH)["headline"]
    assert headline in page.get("/").text
    number = read.node.view(BOTH).study.id
    text = page.get(f"/studies/{number}").text
    for words in ("Hippocampus anterior", "Hippocampus posterior", "Hippocampus, whole", "mL", headline):
        assert words in text
    series = read.node.view(BOTH).series[0].id
    overlay = page.get(f"/studies/{number}/overlay/{series}/5.png")
    pixels = np.asarray(Image.open(BytesIO(overlay.content)).convert("RGBA"))
    shown = pixels[..., :3] * (pixels[..., 3:] > 200)
    assert all(near(shown, colour, 4).sum() > 200 for colour in COLOURS)
    missing = page.get(f"/studies/{read.node.view(NO_POSTERIOR).study.id}").text
    assert "not outlined" in missing
    assert page.get("/models").status_code == 200


def test_a_later_revision_keeps_the_identity_of_each_structure(read):
    """The same structure of the same patient is followed over revisions, whatever its voxels are."""
    before = {item.SegmentLabel: item.TrackingUID for item in read.dataset(BOTH, "SEG").SegmentSequence}
    late = crop_slices(BOTH, np.concatenate([two_parts(), two_parts()[:1]]), spacing_mm=SPACING)[-1:]
    read.node.receive(late)
    assert run_worker(read.node.settings, name="w", once=True) == 0
    results = [one for one in read.node.view(BOTH).results if one.kind == "SEG" and one.revision == 2]
    seg = dcmread(BytesIO(read.store.read(results[0].location)))
    assert {item.SegmentLabel: item.TrackingUID for item in seg.SegmentSequence} == before


def test_the_golden_case_notices_structures_that_are_swapped(tmp_path):
    import json

    from models.package import load_package
    from models.predictor import Predictor

    folder: Path = tmp_path / "swapped"
    write_two_ranges(folder)
    content = json.loads((folder / "model.json").read_text())
    first, second = content["findings"]["segments"]
    first["heads"], second["heads"] = second["heads"], first["heads"]
    (folder / "model.json").write_text(json.dumps(content))
    report = Predictor(load_package(folder), device="cpu").verify_golden()
    assert not report.passed
    assert "segment 1 has" in report.message
