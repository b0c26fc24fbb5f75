"""What a detector found, in result objects: an extent and not a boundary, diameters of the box."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from ball_detector import detector_manifest
from pydicom import dcmread

from config.settings import NodeSettings
from models.detection_prediction import APPROXIMATE, drawn_detections
from models.package import Package, parse_manifest
from models.predictor import Prediction
from models.steps import KeepDetections
from models.volume import Volume
from pipeline.results.measure import box_diameters, measure
from pipeline.results.model_identity import model_identity
from pipeline.results.result_set import build_result_set
from pipeline.results.seg import build_seg
from pipeline.results.source_repair import repair_source

FILES = [
    {"path": f"{role}.bin", "role": role, "bytes": 1, "sha256": "0" * 64}
    for role in ("weights", "golden_in", "golden_out", "card")
]
BOXES = np.array([[1.0, 6.2, 10.0, 5.0, 16.7, 18.0], [2.0, 20.0, 4.0, 4.0, 25.0, 11.0]])
SCORES = np.array([0.91, 0.55])


def package() -> Package:
    return Package(parse_manifest(detector_manifest(files=FILES), "test"), Path(), "ab" * 32)


def told(source, boxes=BOXES, scores=SCORES) -> Prediction:
    step = KeepDetections(step="keep_detections", score=0.4)
    found = drawn_detections(boxes, scores, step, source.volume.shape)
    return Prediction(
        found.score_map,
        found.labels,
        found.detected.lesion_scores,
        None,
        None,
        found.notes,
        detected=found.detected,
    )


def built(sources, source, prediction):
    return build_result_set(
        [source], [prediction], package(), node=NodeSettings(), revision=1, job_created_at=sources.created
    )


def items(dataset):
    yield dataset
    for child in dataset.get("ContentSequence", ()):
        yield from items(child)


def meaning(item) -> str:
    return item.ConceptNameCodeSequence[0].CodeMeaning if item.get("ConceptNameCodeSequence") else ""


def test_segments_say_that_they_are_approximate_extents(sources):
    source = sources.series(sources.stack())
    found = built(sources, source, told(source))
    seg = dcmread(BytesIO(found.objects[0].part10))
    assert [item.SegmentLabel for item in seg.SegmentSequence] == [
        "Possible ball 1 (approximate extent)",
        "Possible ball 2 (approximate extent)",
    ]


def test_a_long_label_keeps_the_words(sources):
    source = sources.series(sources.stack())
    content = detector_manifest(files=FILES)
    content["findings"]["segments"][0]["label"] = "A very long name of what may or may not be a nodule or so"
    model = model_identity(Package(parse_manifest(content, "test"), Path(), "ab" * 32))
    findings = sources.findings_of(source, told(source).labels, model)
    seg = build_seg(
        repair_source(source), told(source).labels, findings.lesions, sources.authorship_of(source, model)
    )
    label = str(seg.SegmentSequence[0].SegmentLabel)
    assert len(label) == 64
    assert label.endswith(" (approximate extent)")


def test_the_report_says_bounded_by_and_tells_score_diameters_and_what_the_shape_is_worth(sources):
    source = sources.series(sources.stack())
    found = built(sources, source, told(source))
    report = dcmread(BytesIO(next(one.part10 for one in found.objects if one.kind == "SR")))
    listed = list(items(report))
    purposes = {
        item.ConceptCodeSequence[0].CodeMeaning
        for item in listed
        if item.ValueType == "CODE" and meaning(item) == "Geometric purpose of region"
    }
    assert purposes == {"Bounded by"}
    assert any(item.ValueType == "TEXT" and item.TextValue == APPROXIMATE for item in listed)
    row, column = source.volume.pixel_spacing_mm
    numbers = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in listed
        if item.ValueType == "NUM" and meaning(item) in ("Long Axis", "Short Axis")
    ]
    sides = [sorted(((b[4] - b[1]) * row, (b[5] - b[2]) * column), reverse=True) for b in BOXES]
    assert numbers == pytest.approx([side for pair in sides for side in pair], abs=1e-3)
    assert [one["score"] for one in found.findings["lesions"]] == pytest.approx([0.91, 0.55])
    assert APPROXIMATE in found.findings["notes"]


def test_without_a_detection_the_study_is_negative(sources):
    source = sources.series(sources.stack())
    found = built(sources, source, told(source, BOXES[:0], SCORES[:0]))
    assert found.findings["lesions"] == []
    assert APPROXIMATE not in found.findings["notes"]


def test_the_volume_is_that_of_what_is_drawn_and_the_diameters_those_of_the_box():
    volume = Volume(np.zeros((12, 30, 40), np.float32), pixel_spacing_mm=(0.7, 0.9), slice_spacing_mm=2.0)
    step = KeepDetections(step="keep_detections", score=0.4)
    box = np.array([[2.3, 4.1, 8.0, 9.1, 20.6, 31.0]])
    labels = drawn_detections(box, np.array([0.8]), step, (12, 30, 40)).labels
    (lesion,) = measure(labels, volume, (0.8,), box)
    assert lesion.long_axis_mm == pytest.approx(23.0 * 0.9)
    assert lesion.short_axis_mm == pytest.approx(16.5 * 0.7)
    assert lesion.volume_ml == pytest.approx(labels.sum() * 0.7 * 0.9 * 2.0 / 1000)
    middle = np.mean(lesion.long_ends, 0)
    np.testing.assert_allclose(middle, [(4.1 + 20.6) / 2 - 0.5, (8.0 + 31.0) / 2 - 0.5])
    (without,) = measure(labels, volume, (0.8,))
    assert without.long_axis_mm != pytest.approx(23.0 * 0.9, abs=1e-6)


def test_of_a_tall_box_the_long_axis_runs_down():
    size = box_diameters(np.array([0.0, 2, 3, 4, 12, 7]), (1.0, 1.0))
    assert (size.long, size.short) == (10.0, 4.0)
    assert size.long_ends == ((1.5, 4.5), (11.5, 4.5))
    assert size.short_ends == ((6.5, 2.5), (6.5, 6.5))
