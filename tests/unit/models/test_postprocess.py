import numpy as np
import pytest

from models.postprocess import postprocess
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
