"""Packages of detectors: what a manifest may say, and what comes out of a volume."""

import json

import numpy as np
import pytest
from ball_detector import PACKAGE_ID, balls, detector_manifest, write_ball_detector

from models.detection_prediction import APPROXIMATE, DetectedBoxes, drawn_detections, other_detections
from models.package import PackageError, load_package, parse_manifest
from models.predictor import Predictor
from models.steps import KeepDetections
from models.volume import Volume

FILES = [
    {"path": f"{role}.bin", "role": role, "bytes": 1, "sha256": "0" * 64}
    for role in ("weights", "golden_in", "golden_out", "card")
]
MIDDLES = ((12.0, 14.0, 30.0), (28.0, 30.0, 15.0))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_ball_detector(tmp_path_factory.mktemp("packages") / PACKAGE_ID)


@pytest.fixture(scope="module")
def predictor(package):
    return Predictor(package, device="cpu")


def volume_of(image, spacing=(1.0, 1.0, 1.0)):
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(image, affine, (spacing[1], spacing[2]), spacing[0])


def middles(boxes) -> list[tuple[float, ...]]:
    return sorted(tuple(one) for one in (boxes[:, :3] + boxes[:, 3:]) / 2)


def test_balls_are_found_across_windows_as_ellipsoids_with_their_scores_surest_first(predictor):
    image, truth = balls((40, 44, 46), [(MIDDLES[0], 5.0), (MIDDLES[1], 4.0)])
    found = predictor.predict(volume_of(image))
    assert found.detected is not None
    assert len(found.detected.drawn) == 2
    np.testing.assert_allclose(middles(found.detected.of_lesions), MIDDLES, atol=1.2)
    assert found.lesion_scores == tuple(sorted(found.lesion_scores, reverse=True))
    assert min(found.lesion_scores) >= 0.4
    for number, score in enumerate(found.lesion_scores, start=1):
        drawn = found.labels == number
        inside = truth == np.bincount(truth[drawn], minlength=3)[1:].argmax() + 1
        assert (drawn & inside).sum() / (drawn | inside).sum() > 0.4
        assert (found.probability[drawn] >= np.float32(score)).all()
    assert APPROXIMATE in found.notes


def test_thick_and_mirrored_slices_put_the_boxes_where_the_balls_are(predictor):
    spacing = (2.0, 0.8, 0.8)
    image, _ = balls((20, 50, 52), [((7, 20, 34), 5.0)], spacing=spacing)
    affine = np.diag([-0.8, 0.8, -2.0, 1.0])  # columns run to the right, slices to the feet
    found = predictor.predict(Volume(image, affine, (0.8, 0.8), 2.0))
    (box,) = found.detected.of_lesions
    np.testing.assert_allclose((box[:3] + box[3:]) / 2 * spacing, np.multiply((7, 20, 34), spacing), atol=1.6)
    np.testing.assert_allclose((box[3:] - box[:3]) * spacing, 10, atol=3.5)


def test_noise_alone_is_negative_and_says_nothing_of_extents(predictor):
    image, _ = balls((30, 30, 30), [])
    found = predictor.predict(volume_of(image))
    assert not found.labels.any()
    assert found.lesion_scores == ()
    assert found.notes == ()
    assert len(found.detected.scores) > 0  # candidates, for a curve


def test_the_golden_case_passes_and_fails_when_the_network_says_something_else(package, tmp_path):
    assert Predictor(package, device="cpu").verify_golden().passed
    broken = Predictor(load_package(package.folder), device="cpu")
    broken.network.size[-1].bias.data += 1.0
    report = broken.verify_golden()
    assert not report.passed
    assert "corners of boxes" in report.message


def test_boxes_of_another_number_place_or_score_are_told_apart():
    one = DetectedBoxes(np.array([[0.0, 0, 0, 4, 4, 4]]), np.array([0.8]), (0,))
    same, _ = other_detections(one, one, score_tolerance=0.02)
    assert same == []
    moved = DetectedBoxes(one.boxes + 0.7, one.scores, (0,))
    assert "corners" in other_detections(moved, one, score_tolerance=0.02)[0][0]
    unsure = DetectedBoxes(one.boxes, one.scores - 0.1, (0,))
    faults, difference = other_detections(unsure, one, score_tolerance=0.02)
    assert "scores" in faults[0]
    assert difference == pytest.approx(0.1)
    none = DetectedBoxes(one.boxes, one.scores, ())
    assert "0 boxes instead of 1" in other_detections(none, one, score_tolerance=0.02)[0][0]


def test_the_surest_are_drawn_and_the_others_counted():
    boxes = np.array([[float(4 * n), 0, 0, 4 * n + 3, 3, 3] for n in range(5)])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.2])
    step = KeepDetections(step="keep_detections", score=0.5, at_most=3)
    found = drawn_detections(boxes, scores, step, (20, 4, 4))
    assert found.detected.drawn == (0, 1, 2)
    assert found.detected.lesion_scores == (0.9, 0.8, 0.7)
    assert "4 places reach the threshold; the surest 3 are drawn." in found.notes


@pytest.mark.parametrize(
    ("block", "place", "value", "words"),
    [
        ("task", "kind", "segment", "task.kind detect"),
        ("network", "dimensions", 2, "window"),
        ("network", "classes", 2, "lesions of one class"),
        ("grid", "tiling.lesion_heads", [0], "neither lesion_heads"),
        ("grid", "tiling.mirror", [0], "nor mirror"),
        ("grid", "tiling.activation", "softmax", "activation sigmoid"),
        ("grid", "tiling.skip_background", {"above": 0.0}, "nor skip_background"),
        ("grid", "tiling.window", [16, 16, 14], "multiples of"),
    ],
    ids=lambda value: str(value).replace(" ", "-")[:24],
)
def test_a_manifest_that_asks_a_detector_for_something_else_is_refused(block, place, value, words):
    content = detector_manifest(files=FILES)
    node = content[block]
    *path, last = place.split(".")
    for part in path:
        node = node[part]
    node[last] = value
    with pytest.raises(PackageError, match=words):
        parse_manifest(json.loads(json.dumps(content)), "model.json")


@pytest.mark.parametrize(
    "steps",
    [
        [{"step": "threshold", "probability": 0.5}],
        [{"step": "keep_detections", "score": 0.5}, {"step": "fill_holes"}],
    ],
    ids=["threshold", "and-more"],
)
def test_detections_are_kept_by_their_own_step_alone(steps):
    with pytest.raises(PackageError, match="keep_detections alone"):
        parse_manifest(detector_manifest(files=FILES, postprocess=steps), "model.json")
