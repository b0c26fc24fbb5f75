import numpy as np
import pytest

from models.postprocess import chosen_class, postprocess
from models.steps import FillHoles, ImageGate, MinComponent, MinPeak, Threshold

THRESHOLD = Threshold(step="threshold", probability=0.5)


def boxes():
    probability = np.zeros((3, 20, 20), np.float32)
    probability[0:2, 2:6, 2:6] = 0.9  # 32 voxels
    probability[1, 12:14, 12:14] = 0.6  # 4 voxels
    probability[2, 18, 18] = 0.95
    return probability


def run(probability, *steps, voxel_ml=None, scores=None):
    return postprocess(probability, (THRESHOLD, *steps), voxel_ml=voxel_ml, class_scores=scores)


def test_lesions_are_numbered_from_the_largest_with_their_mean_probability():
    found = run(boxes())
    assert [int((found.labels == n).sum()) for n in (1, 2, 3)] == [32, 4, 1]
    assert found.scores == pytest.approx((0.9, 0.6, 0.95))
    assert found.labels.dtype == np.uint16


def test_voxels_that_touch_by_a_corner_across_slices_are_one_lesion():
    probability = np.zeros((2, 4, 4), np.float32)
    probability[0, 1, 1] = probability[1, 2, 2] = 1
    assert run(probability).labels.max() == 1


def test_small_components_are_dropped_by_millilitres_or_by_share():
    assert run(boxes(), MinComponent(step="min_component", minimum_ml=0.03), voxel_ml=0.01).labels.max() == 2
    assert run(boxes(), MinComponent(step="min_component", minimum_share=0.05)).labels.max() == 1
    with pytest.raises(ValueError, match="known spacing"):
        run(boxes(), MinComponent(step="min_component", minimum_ml=0.03))


def test_components_without_a_sure_voxel_are_dropped():
    assert run(boxes(), MinPeak(step="min_peak", probability=0.8)).labels.max() == 2
    assert run(np.zeros((1, 4, 4), np.float32), MinPeak(step="min_peak", probability=0.8)).labels.max() == 0


def test_holes_are_filled_slice_by_slice():
    probability = np.zeros((1, 9, 9), np.float32)
    probability[0, 2:7, 2:7] = 1
    probability[0, 4, 4] = 0
    assert (run(probability, FillHoles(step="fill_holes")).labels > 0).sum() == 25


def test_nothing_is_drawn_on_an_image_whose_likeliest_class_is_the_gate_and_a_note_says_so():
    gate = ImageGate(step="image_gate", class_name="normal")
    closed = run(boxes(), gate, scores={"benign": 0.3, "normal": 0.4, "malignant": 0.3})
    assert closed.labels.max() == 0
    assert "normal" in closed.notes[0]
    opened = run(boxes(), gate, scores={"benign": 0.5, "normal": 0.3, "malignant": 0.2})
    assert opened.labels.max() == 3
    assert opened.notes == ()


def test_exactly_one_limit_of_a_smallest_component_must_be_given():
    with pytest.raises(ValueError, match="exactly one"):
        MinComponent(step="min_component")


def test_a_threshold_of_the_peak_outlines_what_is_likely_but_not_sure():
    probability = np.zeros((1, 10, 10), np.float32)
    probability[0, 2:5, 2:5] = 0.3
    sure = Threshold(step="threshold", probability=0.5)
    assert postprocess(probability, (sure,), voxel_ml=None, class_scores=None).labels.max() == 0
    relative = Threshold(step="threshold", probability=0.5, of_peak=0.5)
    found = postprocess(probability, (relative,), voxel_ml=None, class_scores=None)
    assert (found.labels > 0).sum() == 9
    nothing = postprocess(probability * 0.1, (relative,), voxel_ml=None, class_scores=None)
    assert nothing.labels.max() == 0


@pytest.mark.parametrize(
    ("scores", "name"),
    [
        ({"benign": 0.2, "malignant": 0.25, "normal": 0.55}, "malignant"),
        ({"benign": 0.2, "malignant": 0.15, "normal": 0.65}, "normal"),
        ({"benign": 0.7, "malignant": 0.2, "normal": 0.1}, "benign"),
    ],
)
def test_a_gate_with_a_probability_decides_class_and_outline_together(scores, name):
    steps = (THRESHOLD, ImageGate(step="image_gate", class_name="normal", probability=0.6))
    assert chosen_class(scores, steps) == name
    found = postprocess(boxes(), steps, voxel_ml=None, class_scores=scores)
    assert (found.labels.max() == 0) == (name == "normal")
