"""A detector's candidates against the truth: one to one, the surest first, and the curve they make."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detection_prediction import drawn_detections
from models.ellipsoids import numbered_ellipsoids
from models.evaluation.case_result import plain_result, result_from, result_of
from models.evaluation.detection_figures import JudgedBoxes, detection_rows, judged_boxes
from models.evaluation.detections import hits_of_boxes
from models.evaluation.evaluate import figures_of
from models.evaluation.kept_predictions import read_said, said_of, write_said
from models.evaluation.lesions import match_lesions
from models.evaluation.measures import candidates_of
from models.predictor import Prediction
from models.steps import KeepDetections
from models.training.cases import Case
from models.volume import Volume

SHAPE = (20, 24, 28)


def ball(middle, radius) -> list[float]:
    return [*np.subtract(middle, radius), *np.add(middle, radius)]


def truth_of(*balls_: tuple[tuple[float, float, float], float]) -> np.ndarray:
    labels, _ = numbered_ellipsoids(np.array([ball(*one) for one in balls_]), SHAPE)
    return labels.astype(np.int64)


TRUTH = truth_of(((6, 6, 6), 3.0), ((13, 17, 20), 4.0))


def test_a_centre_inside_or_a_tenth_of_overlap_is_a_hit_and_a_second_one_is_false():
    boxes = np.array(
        [
            ball((6, 6, 6), 1.0),  # small, but its centre is inside
            ball((6.5, 6, 6), 3.0),  # the same lesion again
            ball((13, 17, 24), 4.0),  # beside it, overlapping by more than a tenth
            ball((2, 20, 4), 3.0),  # nothing there
        ]
    )
    found, ious = hits_of_boxes(boxes, TRUTH)
    assert found.tolist() == [1, 0, 2, 0]
    assert ious[2] > 0.1
    assert hits_of_boxes(boxes[:1], TRUTH, by_centre=False)[0].tolist() == [0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_boxes_apart_are_matched_as_the_lesions_drawn_in_them(seed, count):
    rng = np.random.default_rng(seed)
    boxes: list[list[float]] = []
    for _ in range(60):
        box = ball(rng.uniform(3, np.array(SHAPE) - 3), rng.uniform(1, 4))
        apart = all(
            any(box[a] > other[a + 3] + 1 or other[a] > box[a + 3] + 1 for a in range(3)) for other in boxes
        )
        if apart and len(boxes) < count:
            boxes.append(box)
    given_boxes = np.array(boxes).reshape(-1, 6)
    scores = sorted(rng.uniform(size=len(boxes)), reverse=True)
    found, _ = hits_of_boxes(given_boxes, TRUTH)
    labels, drawn = numbered_ellipsoids(given_boxes, SHAPE)
    assert len(drawn) == len(boxes)
    expected = {hit.found: hit.truth for hit in match_lesions(labels, TRUTH, scores).hits}
    # Centres of mass of voxels and of boxes may lie in neighbouring voxels: compare where IoU decides.
    by_overlap = hits_of_boxes(given_boxes, TRUTH, by_centre=False)[0]
    strict = {h.found: h.truth for h in match_lesions(labels, TRUTH, scores, by_centre=False).hits}
    assert {n + 1: int(one) for n, one in enumerate(by_overlap) if one} == strict
    assert set(np.flatnonzero(found) + 1) >= set(strict) or expected


def case_of(truth=TRUTH, name="a") -> Case:
    volume = Volume(np.zeros(SHAPE, np.float32), None, (1.0, 1.0), 1.0)
    return Case(name, name, "", volume, (truth > 0).astype(np.uint8), None)


def test_candidates_below_the_operating_point_are_judged_and_those_above_are_shown():
    boxes = np.array([ball((6, 6, 6), 3.0), ball((2, 20, 4), 3.0), ball((13, 17, 20), 4.0)])
    step = KeepDetections(step="keep_detections", score=0.5)
    detected = drawn_detections(boxes, np.array([0.9, 0.6, 0.2]), step, SHAPE).detected
    judged = judged_boxes(case_of(), detected)
    assert judged.scores == [0.9, 0.6, 0.2]
    assert judged.hits == [0, -1, 1]
    assert judged.shown == 2
    np.testing.assert_allclose(judged.diameters_mm, [6, 8], rtol=0.08)


def test_figures_have_closed_forms():
    """Two studies, three lesions: found at 0, 0.5 and 1 false findings per study, in this order."""
    cases = [
        JudgedBoxes([0.9, 0.8, 0.3], [0, -1, 1], [9.0, 5.0], 2),
        JudgedBoxes([0.7, 0.6], [0, -1], [7.0], 2),
    ]
    rows, everything = detection_rows(cases), np.arange(2)
    # From 0.9 down: 1/3 at 0 false per study, 1/3 at 1/2, 2/3 at 1/2, 2/3 at 1, 3/3 at 1.
    assert rows["sensitivity_at_1_false"](everything) == pytest.approx(1.0)
    assert rows["lesions_found"](everything) == pytest.approx(2 / 3)
    assert rows["false_findings_per_study"](everything) == pytest.approx(1.0)
    assert rows["cpm"](everything) == pytest.approx((1 / 3 + 1 / 3 + 2 / 3 + 1 + 1 + 1 + 1) / 7)
    # Of 8 mm and more there is one lesion, and nothing surer than its hit is false.
    assert rows["cpm_from_8_mm"](everything) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="lesions"):
        rows["cpm_from_8_mm"](np.array([1, 1]))


def test_a_detector_that_finds_nothing_has_no_sensitivity_and_a_perfect_one_all():
    nothing = [JudgedBoxes([0.9], [-1], [5.0], 1), JudgedBoxes([], [], [8.0], 0)]
    assert detection_rows(nothing)["cpm"](np.arange(2)) == 0
    perfect = [JudgedBoxes([0.9], [0], [5.0], 1), JudgedBoxes([0.9], [0], [8.0], 1)]
    assert detection_rows(perfect)["cpm"](np.arange(2)) == 1


def test_results_are_kept_as_json_and_give_the_same_figures():
    boxes = np.array([ball((6, 6, 6), 3.0), ball((2, 20, 4), 3.0)])
    step = KeepDetections(step="keep_detections", score=0.5)
    found = drawn_detections(boxes, np.array([0.9, 0.6]), step, SHAPE)
    results = []
    for name in ("a", "b"):
        case = case_of(name=name)
        result = replace(result_of(case, found.labels, None, None), boxes=judged_boxes(case, found.detected))
        results.append(result_from(json.loads(json.dumps(plain_result(result)))))
    rows = {row.metric: row for row in figures_of("own", results, "scored", unit="patients")}
    assert {"cpm", "cpm_from_6_mm", "sensitivity_at_1_false"} < set(rows)
    assert rows["lesions_found"].value == 0.5
    assert rows["false_findings_per_study"].value == 1
    assert rows["cpm"].unit == "patients"


def test_kept_predictions_hold_the_candidates(tmp_path):
    boxes = np.array([ball((6, 6, 6), 3.0), ball((2, 20, 4), 3.0)])
    step = KeepDetections(step="keep_detections", score=0.7)
    found = drawn_detections(boxes, np.array([0.9, 0.6]), step, SHAPE)
    said = said_of(Prediction(found.score_map, found.labels, (0.9,), None, None, (), detected=found.detected))
    write_said(tmp_path / "one.npz", said)
    again = read_said(tmp_path / "one.npz")
    assert again is not None
    assert np.array_equal(again.detected.boxes, boxes)
    assert again.detected.scores.tolist() == [0.9, 0.6]
    assert again.detected.drawn == (0,)


def test_a_report_counts_candidates_of_a_detector_by_their_boxes():
    boxes = np.array([ball((6, 6, 6), 3.0), ball((6, 6, 6), 1.5), ball((13, 17, 20), 4.0)])
    step = KeepDetections(step="keep_detections", score=0.7)
    found = drawn_detections(boxes, np.array([0.9, 0.6, 0.4]), step, SHAPE)
    said = said_of(Prediction(found.score_map, found.labels, (0.9,), None, None, (), detected=found.detected))
    candidates = candidates_of(said, TRUTH, [step])
    assert [(one.score, one.is_hit) for one in candidates] == [(0.9, True), (0.6, False), (0.4, True)]
