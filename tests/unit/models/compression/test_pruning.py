"""A pruned network is smaller, and computes what the network computes in which those channels are silent."""

import copy

import pytest
import torch
from torch import nn

from config.errors import PrereadError
from models.compression.pruning import left_of, prune
from models.networks.building import build_grid_network, build_network, parameter_count
from models.networks.channels import ChannelSet, Reading, importance, strongest
from models.networks.encoder import EXPANDED
from models.networks.own_specs import UNetSpec
from models.networks.registry import EffNetLite0UNetSpec

NARROW = tuple(width // 24 for width in EXPANDED)
CANVAS = EffNetLite0UNetSpec(
    registry="effnet_lite0_unet@1", in_channels=3, classes=3, decoder_channels=(12, 8, 8, 8), expanded=NARROW
)
LESION = CANVAS.model_copy(update={"classes": 0})
FLAT = UNetSpec(
    registry="unet@1", dimensions=2, in_channels=1, heads=2, features=(8, 12, 16, 16), norm="batch"
)
GATED = FLAT.model_copy(update={"attention": True, "decoder_blocks": 2, "norm": "instance"})
DEEP = FLAT.model_copy(update={"dimensions": 3, "norm": "instance", "blocks": 1, "side_outputs": 1})
SPECS = {"canvas with classes": CANVAS, "canvas": LESION, "2d": FLAT, "2d gated": GATED, "3d": DEEP}


def lively(spec):
    """A network whose normalisations are not all the same."""
    torch.manual_seed(1)
    network = build_network(spec) if isinstance(spec, EffNetLite0UNetSpec) else build_grid_network(spec)
    for name, value in network.state_dict().items():
        if name.endswith(("running_var", "weight")) and value.dim() == 1:
            value.uniform_(0.5, 2.0)
        elif value.dim() == 1 and value.is_floating_point():
            value.uniform_(-0.3, 0.3)
    return network.eval()


def silenced(network, pruned):
    """The network before, in which the channels that went say nothing."""
    masked = copy.deepcopy(network)
    state = masked.state_dict()
    for channels, kept in zip(pruned.sets, pruned.kept, strict=True):
        gone = [one for one in range(channels.count) if one not in kept.tolist()]
        for layer in channels.normed_by or channels.made_by:
            for name in ("weight", "bias"):
                state[f"{layer}.{name}"][gone] = 0
    return masked


def outputs(network, x):
    with torch.inference_mode():
        found = network(x)
    return [found] if isinstance(found, torch.Tensor) else [found.lesion, *found.side, found.classes]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_pruned_network_is_smaller_and_computes_what_the_masked_one_computes(spec):
    network = lively(spec)
    pruned = prune(network, spec, 0.4)
    assert parameter_count(pruned.network) < 0.9 * parameter_count(network)
    x = torch.randn(2, spec.in_channels, *(32,) * getattr(spec, "dimensions", 2))
    wanted, before = outputs(silenced(network, pruned), x), outputs(network, x)
    for found, masked, whole in zip(outputs(pruned.network, x), wanted, before, strict=True):
        if masked is None:
            assert found is None
            continue
        torch.testing.assert_close(found, masked, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(found, whole, rtol=1e-3, atol=1e-3)


def test_the_pruned_network_is_the_one_that_its_entry_builds():
    pruned = prune(lively(CANVAS), CANVAS, 0.5)
    build_network(pruned.spec).load_state_dict(pruned.network.state_dict())
    assert pruned.spec.decoder_channels == (8, 4, 4, 4)
    assert EffNetLite0UNetSpec.model_validate(pruned.spec.model_dump()) == pruned.spec


def test_silent_channels_go_first_and_nothing_is_lost_with_them():
    network = lively(FLAT)
    silent = [0, 3, 5, 7]
    with torch.no_grad():
        for block in network.trunk.encoder.stages[0]:
            block.norm.weight[silent] = 0
            block.norm.bias[silent] = 0
    pruned = prune(network, FLAT, 0.5)
    first = [
        kept.tolist() for kept, one in zip(pruned.kept, pruned.sets, strict=True) if ".0." in one.made_by[0]
    ]
    assert first[0] == [1, 2, 4, 6]


def test_importance_is_the_filter_times_its_scale_times_what_is_read_from_it():
    state = {
        "a.weight": torch.tensor([[3.0, 4.0], [0.6, 0.8]])[..., None],
        "n.weight": torch.tensor([-0.5, 2.0]),
        "n.running_var": torch.tensor([1.0, 4.0]),
        "b.weight": torch.tensor([[9.0, 1.0, 2.0], [9.0, 0.0, 0.0]]),
    }
    channels = ChannelSet(2, 1, ("a",), ("n",), (Reading("b", 1),))
    assert importance(state, channels).tolist() == pytest.approx([5 * 0.5 / 1 * 1, 1 * 2 / 2 * 2], rel=1e-4)


def test_of_equal_channels_the_first_stay():
    assert strongest(torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0]), 3).tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("count", "share", "left"), [(128, 0.4, 76), (48, 0.5, 24), (6, 0.5, 4), (2, 0.5, 2)]
)
def test_channels_stay_in_multiples_of_four(count, share, left):
    assert left_of(count, share) == left


@pytest.mark.parametrize("update", [{"norm": "group"}, {"kind": "residual"}], ids=["group norm", "residual"])
def test_channels_that_hang_together_are_refused_by_name(update):
    spec = FLAT.model_copy(update=update)
    with pytest.raises(PrereadError, match="is not pruned"):
        prune(nn.Identity(), spec, 0.4)
