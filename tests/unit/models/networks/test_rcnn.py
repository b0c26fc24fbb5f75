"""The two-stage detector: its geometry against closed forms, and that it learns to find."""

import numpy as np
import torch
from generated_discs import discs, fit, hits

from models.evaluation.average_precision import average_precision
from models.networks.anchors import BACKGROUND, NEITHER, anchors_of_level, drawn, matched
from models.networks.building import build_own_network
from models.networks.detections import Truth
from models.networks.own_specs import Rcnn2dSpec
from models.networks.rcnn import Rcnn2d
from models.networks.rcnn_losses import Proposed, box_losses, box_samples, proposal_losses
from models.networks.roi_align import pyramid_align, roi_align
from models.networks.spec_parts import StagedEncoder


def ramp(rows: int, columns: int, stride: int) -> torch.Tensor:
    """A map (1, 2, rows, columns) that holds the input's row and column of each cell's centre."""
    row, column = (torch.arange(count) + 0.5 for count in (rows, columns))
    return torch.stack(torch.meshgrid(row, column, indexing="ij"))[None] * stride


def test_a_box_on_a_ramp_gives_the_centres_of_its_bins():
    box = torch.tensor([[8.0, 12.0, 24.0, 20.0]])  # 16 rows, 8 columns: bins of 4 and 2
    (found,) = roi_align(ramp(10, 16, 4), [box], stride=4, size=4)
    torch.testing.assert_close(found[0][:, 0], torch.tensor([10.0, 14.0, 18.0, 22.0]))
    torch.testing.assert_close(found[1][0], torch.tensor([13.0, 15.0, 17.0, 19.0]))


def test_boxes_are_read_from_their_own_image_and_in_order():
    maps = torch.cat([ramp(8, 8, 4), ramp(8, 8, 4) + 100])
    first = torch.tensor([[8.0, 8, 16, 16], [4.0, 4, 8, 8]])
    second = torch.tensor([[12.0, 12, 20, 20]])
    found = roi_align(
        maps,
        [
            first,
            second,
        ][:2],
        stride=4,
        size=2,
    ).mean((2, 3))[:, 0]
    torch.testing.assert_close(found, torch.tensor([12.0, 6.0, 116.0]))
    assert roi_align(maps, [first[:0], second], stride=4, size=2).shape == (1, 2, 2, 2)


def test_the_level_is_chosen_by_size_and_does_not_change_where_one_looks():
    levels = [ramp(16, 16, 4), ramp(8, 8, 8) + 1000]
    boxes = torch.tensor([[24.0, 24, 40, 40], [10.0, 10, 50, 50]])  # 16 and 40 pixels wide
    found = pyramid_align(levels, (4, 8), [boxes], scale=4, size=2).mean((2, 3))[:, 0]
    torch.testing.assert_close(found, torch.tensor([32.0, 1030.0]))


def test_anchors_stand_around_the_centres_of_cells_with_equal_areas():
    anchors = anchors_of_level((2, 3), 8, scale=2, ratios=(0.25, 1.0), device=torch.device("cpu"))
    assert anchors.shape == (12, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[::2].tolist() == [[4, 4], [4, 12], [4, 20], [12, 4], [12, 12], [12, 20]]
    sizes = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sizes[0], torch.tensor([8.0, 32.0]))  # flat: a quarter as high as wide
    torch.testing.assert_close(sizes.prod(1), torch.full((12,), 256.0))


def test_anchors_follow_the_order_of_the_proposal_head():
    """A logit set in one cell of the map is the logit of the anchor around that cell."""
    network = small_network()
    level = torch.zeros(1, 16, 5, 7)
    level[0, :, 3, 2] = 1
    torch.nn.init.ones_(network.proposals.conv.weight)
    torch.nn.init.ones_(network.proposals.objectness.weight)
    logits, codes = network.proposals(level)
    anchors = anchors_of_level((5, 7), 4, scale=4, ratios=(1.0,), device=torch.device("cpu"))
    assert codes.shape == (1, 35, 4)
    near = anchors[logits[0] > logits[0].max() / 2]
    assert ((near[:, :2] + near[:, 2:]) / 2).mean(0).tolist() == [14.0, 10.0]


def test_matching_knows_object_background_and_neither():
    boxes = torch.tensor([[0.0, 0, 10, 10], [40.0, 40, 44, 44]])
    candidates = torch.tensor(
        [[0.0, 0, 10, 9], [0.0, 5, 10, 15], [20.0, 20, 30, 30], [40.0, 40, 50, 50], [0.0, 0, 5, 10]]
    )
    plain = matched(candidates, boxes, high=0.6, low=0.3, best_always=False)
    assert plain.tolist() == [0, NEITHER, BACKGROUND, BACKGROUND, NEITHER]
    kind = matched(candidates, boxes, high=0.6, low=0.3, best_always=True)
    assert kind.tolist() == [0, NEITHER, BACKGROUND, 1, NEITHER]
    nothing = matched(candidates, boxes[:0], high=0.6, low=0.3, best_always=True)
    assert nothing.tolist() == [BACKGROUND] * 5


def test_the_draw_keeps_to_its_shares():
    match = torch.tensor([0] * 50 + [BACKGROUND] * 50 + [NEITHER] * 50)
    objects, background = drawn(match, count=40, positive_share=0.25)
    assert (len(objects), len(background)) == (10, 30)
    assert bool((match[objects] == 0).all())
    assert bool((match[background] == BACKGROUND).all())
    few, rest = drawn(match[47:], count=40, positive_share=0.25)
    assert (len(few), len(rest)) == (3, 37)


def test_the_losses_vanish_at_the_truth():
    truth = Truth(torch.tensor([[8.0, 8, 24, 24]]), torch.tensor([1]))
    anchors = torch.tensor([[8.0, 8, 24, 24], [40.0, 40, 56, 56]])
    sure = Proposed(torch.tensor([[30.0, -30.0]]), torch.zeros(1, 2, 4), anchors, [2])
    assert sum(proposal_losses(sure, [truth]).values()).item() < 1e-6
    wrong = proposal_losses(sure._replace(codes=torch.ones(1, 2, 4)), [truth])
    assert wrong["proposal"].item() > 1
    sample = box_samples(anchors, truth, 2)
    logits = torch.nn.functional.one_hot(sample.classes, 3) * 60.0 - 30
    assert sum(box_losses(logits, sample.codes, [sample]).values()).item() < 1e-6
    assert box_losses(-logits, sample.codes, [sample])["class"].item() > 10


def test_an_image_without_lesion_can_be_learned_from():
    network = small_network()
    nothing = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    terms = network(torch.randn(2, 1, 32, 32), [nothing, nothing])
    assert isinstance(terms, dict)
    terms["total"].backward()
    assert bool(terms["total"].isfinite())
    assert terms["box"].item() == terms["proposal"].item() == 0


def small_network() -> Rcnn2d:
    torch.manual_seed(1)
    spec = Rcnn2dSpec(
        registry="rcnn2d@1",
        in_channels=1,
        classes=2,
        encoder=StagedEncoder(encoder="stages", features=(8, 16, 24, 32), blocks=1),
        pyramid_features=16,
        anchor_scale=3,
        anchor_ratios=(1.0,),
        proposals_max=40,
        pooled_size=5,
        head_features=32,
    )
    network = build_own_network(spec)
    assert isinstance(network, Rcnn2d)
    return network


def test_it_learns_to_find_discs():
    network = small_network()
    seen = discs(64, 64, seed=1, radii=(5.0, 11.0), large=8.0)
    unseen = discs(24, 64, seed=2, radii=(5.0, 11.0), large=8.0)

    def precision() -> float:
        scores, right, boxes = hits(network.eval().detect(unseen.images), unseen.truths, iou=0.5)
        return average_precision(np.array(scores), np.array(right, bool), boxes)

    assert precision() < 0.1

    def loss(step: int) -> torch.Tensor:
        part = [(step * 4 + index) % 64 for index in range(4)]
        return network(seen.images[part], [seen.truths[index] for index in part])["total"]

    fit(network, loss, steps=200, rate=4e-3)
    assert precision() > 0.6
