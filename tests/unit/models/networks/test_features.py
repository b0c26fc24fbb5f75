"""Every network tells its bottleneck in one way: a layer, and one vector per case."""

import pytest
import torch
from networks_of_every_kind import EVERY, example_input, settled
from torch import nn

from config.errors import PrereadError
from models.networks.building import build_grid_network, build_network
from models.networks.features import HasFeatures, featured, pooled, recorded_features
from models.networks.registry import EffNetLite0UNetSpec


def built(name: str) -> nn.Module:
    torch.manual_seed(1)
    return settled(EVERY[name].build(), example_input(name, 4))


@pytest.mark.parametrize("name", EVERY)
def test_features_are_one_vector_per_case_and_depend_on_the_case(name):
    network = built(name)
    x = example_input(name, 2)
    seen = featured(network)
    with torch.no_grad():
        vectors = seen.features(x)
        again = seen.features(torch.cat([x[1:], x[:1]]))
        other = seen.features(torch.cat([x[:1], x[1:].abs()]))
    assert vectors.dim() == 2
    assert vectors.shape[0] == 2
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(again, vectors.flip(0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other[0], vectors[0], atol=1e-4, rtol=1e-3)
    assert (other[1] - vectors[1]).norm() > 0.01 * vectors[1].norm()


@pytest.mark.parametrize("name", EVERY)
def test_the_feature_layer_gives_the_deepest_map(name):
    network = built(name)
    x = example_input(name, 2)
    maps: list[torch.Tensor] = []
    layer = featured(network).feature_layer
    handle = layer.register_forward_hook(lambda _layer, _inputs, output: maps.append(output.clone()))
    with torch.no_grad():
        network(x)
    handle.remove()
    assert isinstance(layer, nn.Module)
    assert all(4 <= one.dim() <= 5 for one in maps)
    assert all(side < x.shape[-1] for one in maps for side in one.shape[3:])


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].one_map])
def test_features_recorded_in_passing_are_those_asked_for(name):
    network = built(name)
    x = example_input(name, 2)
    with torch.no_grad():
        with recorded_features(network) as found:
            network(x)
        network(x)
        torch.testing.assert_close(torch.cat(found), featured(network).features(x), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_feature_layer():
    network = built("effnet_lite0_classifier@1")
    x = example_input("effnet_lite0_classifier@1", 1).requires_grad_()
    featured(network).features(x).sum().backward()
    assert bool(x.grad.abs().sum() > 0)


def test_features_are_the_mean_over_the_map():
    maps = torch.arange(24.0).view(1, 2, 3, 4)
    assert pooled(maps).tolist() == [[5.5, 17.5]]


def test_a_network_that_hides_its_inside_is_refused_by_name():
    with pytest.raises(PrereadError, match="Conv2d has no bottleneck"):
        featured(nn.Conv2d(1, 1, 1))


def test_an_ensemble_speaks_for_its_first_member():
    spec = EVERY["nnunet_plain@1"].spec.model_copy(update={"members": 2})
    network = build_grid_network(spec).eval()
    x = example_input("nnunet_plain@1", 1)
    with torch.no_grad():
        torch.testing.assert_close(featured(network).features(x), network.members[0].features(x))


def test_the_shipped_kind_has_features_of_the_encoder_alone():
    network = build_network(
        EffNetLite0UNetSpec(
            registry="effnet_lite0_unet@1", in_channels=1, classes=3, decoder_channels=(8, 8, 4, 4)
        )
    ).eval()
    assert isinstance(network, HasFeatures)
    assert network.features(torch.zeros(1, 1, 64, 64)).shape == (1, 320)
