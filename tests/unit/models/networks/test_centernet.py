"""CenterNet: what is drawn comes back, the loss falls at the truth, and it learns to find."""

import math

import numpy as np
import pytest
import torch
from generated_discs import discs, fit, hits
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.average_precision import average_precision
from models.networks.boxes import from_centres
from models.networks.building import build_own_network
from models.networks.centernet import CenterMaps, CenterNet, decode
from models.networks.centernet_targets import CenterTargets, centernet_loss, draw_targets, heat_loss
from models.networks.detections import Truth
from models.networks.own_specs import CenterNetSpec


def as_maps(targets: CenterTargets) -> CenterMaps:
    """Maps of a network that learned the targets by heart."""
    return CenterMaps(torch.logit(targets.heat, eps=1e-4), targets.offset, targets.size)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Truth, tuple[int, ...], tuple[int, ...], int]:
    """Boxes whose centres lie in different cells; cells; stride; classes."""
    d = draw(st.sampled_from([2, 3]))
    cells = tuple(draw(st.integers(3, 9)) for _ in range(d))
    stride = tuple(draw(st.sampled_from([1, 2, 4])) for _ in range(d))
    classes = draw(st.integers(1, 3))
    places = draw(
        st.lists(st.tuples(*(st.integers(0, n - 1) for n in cells)), min_size=0, max_size=5, unique=True)
    )
    inside, sizes = st.floats(0.03125, 0.96875, width=32), st.floats(0.25, 30, width=32)
    boxes, labels = [], []
    for place in places:
        corner = torch.tensor([float(value) for value in place])
        within = torch.tensor([draw(inside) for _ in range(d)])
        size = torch.tensor([draw(sizes) for _ in range(d)])
        boxes.append(from_centres((corner + within) * torch.tensor(stride), size))
        labels.append(draw(st.integers(0, classes - 1)))
    stacked = torch.stack(boxes) if boxes else torch.zeros(0, 2 * d)
    return Truth(stacked, torch.tensor(labels, dtype=torch.long)), cells, stride, classes


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_what_is_drawn_is_found_again(scene):
    truth, cells, stride, classes = scene
    targets = draw_targets([truth], cells=cells, stride=stride, classes=classes)
    (found,) = decode(as_maps(targets), stride=stride, count=50, iou=1.0)
    sure = found.scores > 0.99
    assert int(sure.sum()) == len(truth.boxes)
    expected = sorted([int(c), *b.tolist()] for c, b in zip(truth.classes, truth.boxes, strict=True))
    got = sorted([int(c), *b.tolist()] for c, b in zip(found.classes[sure], found.boxes[sure], strict=True))
    torch.testing.assert_close(
        torch.tensor(sorted(got)), torch.tensor(sorted(expected)), atol=2e-3, rtol=1e-3
    )


def test_a_bell_has_the_deviation_of_a_sixth_of_the_box():
    truth = Truth(torch.tensor([[4.0, 0.0, 28.0, 32.0]]), torch.tensor([0]))  # centre 16, 16; 24 x 32
    heat = draw_targets([truth], cells=(33, 33), stride=(1, 1), classes=1).heat[0, 0]
    assert heat[16, 16] == 1
    assert heat[20, 16].item() == pytest.approx(math.exp(-0.5), abs=1e-6)  # 24 / 6 = 4 rows away
    assert heat[16, 16 + 16].item() == pytest.approx(math.exp(-0.5 * 9), abs=1e-6)


def test_a_box_whose_centre_lies_outside_is_not_drawn():
    truth = Truth(torch.tensor([[-20.0, 0.0, -4.0, 8.0]]), torch.tensor([0]))
    assert not draw_targets([truth], cells=(8, 8), stride=(2, 2), classes=1).heat.any()


def test_of_two_boxes_in_one_cell_the_larger_one_stays():
    small, large = [3.0, 3.0, 5.0, 5.0], [0.0, 0.0, 8.0, 8.0]
    for order in ([small, large], [large, small]):
        truth = Truth(torch.tensor(order), torch.tensor([0, 0]))
        targets = draw_targets([truth], cells=(4, 4), stride=(4, 4), classes=1)
        (found,) = decode(as_maps(targets), stride=(4, 4), count=5, iou=0.5)
        torch.testing.assert_close(found.boxes[0], torch.tensor(large))


def test_the_heat_loss_is_its_closed_form():
    logits, heat = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
    # p = 1/2: at the centre (1/2)^2 ln 2, beside it (1/2)^4 (1/2)^2 ln 2
    assert heat_loss(logits, heat).item() == pytest.approx((1 / 4 + 1 / 64) * math.log(2), abs=1e-6)


def test_the_loss_is_small_at_the_truth_and_grows_with_each_error():
    truth = Truth(torch.tensor([[3.0, 4.0, 9.0, 12.0]]), torch.tensor([1]))
    targets = draw_targets([truth], cells=(8, 8), stride=(2, 2), classes=2)
    right = CenterMaps((targets.heat == 1).float() * 40 - 20, targets.offset, targets.size)
    at_truth = centernet_loss(right, targets)
    assert at_truth["total"].item() < 1e-4
    shifted = centernet_loss(right._replace(offset=right.offset + 0.25), targets)
    larger = centernet_loss(right._replace(size=right.size + 0.5), targets)
    blind = centernet_loss(right._replace(heat=torch.full_like(right.heat, -20)), targets)
    assert shifted["offset"].item() == pytest.approx(0.25, abs=1e-6)
    assert larger["size"].item() == pytest.approx(0.5, abs=1e-6)
    assert blind["heat"].item() > 10


def test_an_image_without_lesion_has_a_loss_that_falls_with_its_heat():
    nothing = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    targets = draw_targets([nothing], cells=(8, 8), stride=(2, 2), classes=1)
    zeros = torch.zeros(1, 2, 8, 8)
    warm, cold = (
        centernet_loss(CenterMaps(torch.full((1, 1, 8, 8), heat), zeros, zeros), targets)
        for heat in (0.0, -8.0)
    )
    assert warm["total"] > 10 * cold["total"]
    assert bool(cold["total"].isfinite())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_learns_to_find_discs_and_balls(dimensions):
    size, count = (40, 48) if dimensions == 2 else (20, 24)
    radii = (3.0, 7.0) if dimensions == 2 else (2.5, 4.5)
    spec = CenterNetSpec(
        registry="centernet@1",
        dimensions=dimensions,
        in_channels=1,
        classes=2 if dimensions == 2 else 1,
        features=(8, 16, 32),
        blocks=1,
        norm="group",
        head_features=16,
    )
    torch.manual_seed(1)
    network = build_own_network(spec)
    assert isinstance(network, CenterNet)
    large = 5.0 if dimensions == 2 else 100.0
    seen = discs(count, size, seed=1, dimensions=dimensions, radii=radii, large=large)
    unseen = discs(16, size, seed=2, dimensions=dimensions, radii=radii, large=large)

    def precision() -> float:
        scores, right, boxes = hits(network.eval().detect(unseen.images), unseen.truths, iou=0.5)
        return average_precision(np.array(scores), np.array(right, bool), boxes)

    assert precision() < 0.1
    batch = 8 if dimensions == 2 else 4
    cells = (size // 2,) * dimensions

    def loss(step: int) -> torch.Tensor:
        part = [(step * batch + index) % count for index in range(batch)]
        targets = draw_targets(
            [seen.truths[index] for index in part],
            cells=cells,
            stride=spec.output_stride,
            classes=spec.classes,
        )
        return centernet_loss(network(seen.images[part]), targets)["total"]

    fit(network, loss, steps=100 if dimensions == 2 else 80, rate=1e-2)
    assert precision() > 0.7
