"""Boxes: overlap, suppression and coding, against closed forms and MONAI."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.networks.boxes import clipped, decoded, encoded, from_centres, overlaps, suppressed

DIMENSIONS = st.sampled_from([2, 3])
QUIET = settings(max_examples=40, deadline=None)


@st.composite
def boxes(draw: st.DrawFn, dimensions: int, most: int = 12) -> torch.Tensor:
    count = draw(st.integers(1, most))
    numbers = st.floats(0.5, 40, width=32)
    flat = draw(st.lists(numbers, min_size=2 * dimensions * count, max_size=2 * dimensions * count))
    part = torch.tensor(flat).view(count, 2 * dimensions)
    return from_centres(part[:, :dimensions], part[:, dimensions:])


def test_overlap_of_a_square_shifted_by_half_its_side_is_a_third():
    square = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    others = torch.tensor([[0.0, 2.0, 4.0, 6.0], [4.0, 0.0, 8.0, 4.0], [1.0, 1.0, 3.0, 3.0]])
    torch.testing.assert_close(overlaps(square, others), torch.tensor([[1 / 3, 0.0, 0.25]]))


def test_overlap_of_a_cube_shifted_by_half_its_side_is_a_third():
    cube = torch.tensor([[0.0, 0, 0, 4, 4, 4]])
    torch.testing.assert_close(overlaps(cube, cube + torch.tensor([2.0, 0, 0] * 2)), torch.tensor([[1 / 3]]))


@QUIET
@given(st.data(), DIMENSIONS)
def test_overlap_is_monais(data, dimensions):
    from monai.data.box_utils import box_iou

    a, b = data.draw(boxes(dimensions)), data.draw(boxes(dimensions))
    torch.testing.assert_close(overlaps(a, b), box_iou(a, b), atol=1e-4, rtol=1e-4)


@QUIET
@given(st.data(), DIMENSIONS, st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_suppression_keeps_what_monai_keeps(data, dimensions, iou):
    from monai.data.box_utils import non_max_suppression

    many = data.draw(boxes(dimensions, most=20)).double()
    scores = torch.rand(len(many), generator=torch.Generator().manual_seed(len(many)))
    kept = suppressed(many, scores, torch.zeros(len(many)), iou=iou, count=100)
    assert kept.tolist() == non_max_suppression(many, scores, iou).tolist()


def test_suppression_leaves_other_classes_alone_and_stops_at_the_count():
    same = torch.tensor([[0.0, 0, 4, 4]]).repeat(4, 1)
    scores, classes = torch.tensor([0.1, 0.4, 0.3, 0.2]), torch.tensor([0, 0, 1, 2])
    assert suppressed(same, scores, classes, iou=0.5, count=10).tolist() == [1, 2, 3]
    assert suppressed(same, scores, classes, iou=0.5, count=2).tolist() == [1, 2]
    assert suppressed(same[:0], scores[:0], classes[:0], iou=0.5, count=2).tolist() == []


@QUIET
@given(st.data(), DIMENSIONS)
def test_a_coded_box_comes_back(data, dimensions):
    anchors = data.draw(boxes(dimensions))
    truth = data.draw(boxes(dimensions, most=1)).expand(len(anchors), -1)
    # 40 from an anchor of 0.5 is more than a box may grow, so such anchors are taken larger.
    anchors = from_centres(anchors[:, :dimensions], anchors[:, dimensions:].abs() + 1)
    torch.testing.assert_close(decoded(encoded(truth, anchors), anchors), truth, atol=1e-3, rtol=1e-4)


@QUIET
@given(st.data(), DIMENSIONS)
def test_codes_are_monais(data, dimensions):
    from monai.apps.detection.utils.box_coder import BoxCoder

    anchors = data.draw(boxes(dimensions))
    truth = data.draw(boxes(dimensions, most=1)).expand(len(anchors), -1)
    theirs = BoxCoder([1.0] * 2 * dimensions).encode_single(truth, anchors)
    torch.testing.assert_close(encoded(truth, anchors), theirs, atol=1e-4, rtol=1e-4)


def test_a_wild_code_gives_a_finite_box():
    anchor = torch.tensor([[0.0, 0, 8, 8]])
    assert bool(decoded(torch.full((1, 4), 1e4), anchor).isfinite().all())


@pytest.mark.parametrize("shape", [(10, 20), (10, 20, 5)])
def test_clipped_boxes_lie_in_the_image(shape):
    d = len(shape)
    low = torch.full((1, d), -3.0)
    found = clipped(torch.cat([low, torch.full((1, d), 30.0)], 1), shape)
    assert found.tolist() == [[*[0.0] * d, *map(float, shape)]]
