"""The U-Net: sizes, thick slices, gates, side outputs, and that each kind learns to outline."""

import pytest
import torch
from generated_discs import dice, discs, fit
from pydantic import ValidationError
from torch.nn import functional as F

from models.networks.building import build_own_network
from models.networks.conv_unet import SIDE_WEIGHTS, ConvUNet, SupervisedLogits
from models.networks.own_specs import UNetSpec


def spec_of(**changes: object) -> UNetSpec:
    return UNetSpec(
        **{
            "registry": "unet@1",
            "dimensions": 2,
            "in_channels": 1,
            "heads": 1,
            "features": (8, 16, 32),
            "blocks": 1,
            "side_outputs": 1,
            "norm": "group",
            **changes,
        }
    )


def network_of(**changes: object) -> ConvUNet:
    torch.manual_seed(1)
    network = build_own_network(spec_of(**changes))
    assert isinstance(network, ConvUNet)
    return network


def supervised_loss(found: SupervisedLogits, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice of each output against the mask of its size."""
    total = torch.zeros(())
    for weight, logits in zip((1.0, *SIDE_WEIGHTS), (found.logits, *found.side), strict=False):
        mask = (
            F.adaptive_avg_pool2d(masks, logits.shape[2:])
            if masks.dim() == 4
            else (F.adaptive_avg_pool3d(masks, logits.shape[2:]))
        )
        p = torch.sigmoid(logits)
        overlap = 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
        total = total + weight * (F.binary_cross_entropy_with_logits(logits, mask) + overlap)
    return total


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"kind": "residual"}, id="residual"),
        pytest.param({"attention": True}, id="attention"),
        pytest.param({"norm": "batch"}, id="batch-norm"),
        pytest.param({"dimensions": 3, "features": (8, 8, 16), "flat_stages": 1}, id="3d-thick-slices"),
        pytest.param({"dimensions": 3, "features": (4, 8, 16), "kind": "residual"}, id="3d-residual"),
    ],
)
def test_it_learns_to_outline(changes):
    network = network_of(**changes)
    dimensions = changes.get("dimensions", 2)
    size, count, batch = (32, 64, 8) if dimensions == 2 else (16, 24, 2)
    seen = discs(count, size, seed=1, dimensions=dimensions)
    unseen = discs(8, size, seed=2, dimensions=dimensions)

    def score() -> float:
        with torch.no_grad():
            return dice(network.eval()(unseen.images), unseen.masks)

    assert score() < 0.5

    def loss(step: int) -> torch.Tensor:
        part = [(step * batch + index) % count for index in range(batch)]
        return supervised_loss(network(seen.images[part]), seen.masks[part])

    fit(network, loss, steps=80, rate=1e-2)
    assert score() > 0.85
    with torch.no_grad():
        side = network.train()(unseen.images).side[0]
    pool = F.max_pool2d if dimensions == 2 else F.max_pool3d
    stride = tuple(a // b for a, b in zip(unseen.masks.shape[2:], side.shape[2:], strict=True))
    assert dice(side, pool(unseen.masks, stride)) > 0.6


def test_neighbouring_slices_are_channels_in_25d():
    """What lies in a neighbour alone is found: the mask is the disc of the slice above."""
    network = network_of(in_channels=3, side_outputs=0)
    above, own = discs(64, 32, seed=1), discs(64, 32, seed=5)
    x = torch.cat([above.images, own.images, torch.randn_like(own.images)], 1)

    def loss(step: int) -> torch.Tensor:
        part = [(step * 8 + index) % 48 for index in range(8)]
        return supervised_loss(network(x[part]), above.masks[part])

    fit(network, loss, steps=60, rate=1e-2)
    with torch.no_grad():
        assert dice(network(x[48:]), above.masks[48:]) > 0.8


def test_prediction_gives_one_tensor_and_training_the_side_outputs_too():
    network = network_of(features=(4, 8, 8, 8), side_outputs=2, heads=3)
    x = torch.randn(2, 1, 32, 48)
    found = network.train()(x)
    assert isinstance(found, SupervisedLogits)
    assert [tuple(one.shape) for one in (found.logits, *found.side)] == [
        (2, 3, 32, 48),
        (2, 3, 16, 24),
        (2, 3, 8, 12),
    ]
    torch.testing.assert_close(network.eval()(x), found.logits)


def test_flat_stages_keep_slices_apart_until_they_end():
    network = network_of(dimensions=3, features=(4, 4, 4, 4), flat_stages=2).eval()
    maps = network.trunk.encoder(torch.randn(1, 1, 8, 32, 32))
    assert [tuple(h.shape[2:]) for h in maps] == [(8, 32, 32), (8, 16, 16), (8, 8, 8), (4, 4, 4)]
    kernels = [stage[0].conv.kernel_size for stage in network.trunk.encoder.stages]
    assert kernels == [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]


def test_a_shut_gate_lets_nothing_of_the_encoder_pass():
    network = network_of(attention=True, features=(4, 8), side_outputs=0).eval()
    up, x = network.trunk.decoder[0], torch.randn(1, 1, 16, 16)
    fine, coarse = network.trunk.encoder(x)
    with torch.no_grad():
        assert not torch.allclose(up(coarse, fine), up(coarse, torch.zeros_like(fine)), atol=1e-4)
        up.gate.score.bias.fill_(-1e4)
        torch.testing.assert_close(up(coarse, fine), up(coarse, torch.zeros_like(fine)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dimensions": 3, "norm": "batch"}, "batch is for 2 dimensions"),
        ({"flat_stages": 1}, "for 3 dimensions"),
        ({"dimensions": 3, "flat_stages": 3}, "must leave a stage"),
        ({"side_outputs": 2}, "1 side outputs at most"),
        ({"features": (8, 4096)}, "2048"),
        ({"features": (8,) * 11}, "10"),
        ({"kind": "os.system"}, "residual"),
        ({"extra": 1}, "extra"),
    ],
)
def test_entries_out_of_bounds_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(**changes)
