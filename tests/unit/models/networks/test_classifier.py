"""Classes of whole images: both classifiers learn, and a class map is exact for both."""

import pytest
import torch
from generated_discs import discs, fit
from networks_of_every_kind import settled
from torch.nn import functional as F

from models.networks.building import build_own_network
from models.networks.own_specs import DenseNetSpec, EffNetLite0ClassifierSpec
from models.training.pretrained import load_imagenet

LITE0 = EffNetLite0ClassifierSpec(registry="effnet_lite0_classifier@1", in_channels=1, classes=2)


def dense(dimensions: int) -> DenseNetSpec:
    return DenseNetSpec(
        registry="densenet@1",
        dimensions=dimensions,
        in_channels=1,
        classes=2,
        init_features=16,
        growth=8,
        layers=(2, 2),
        norm="group",
    )


def learned(
    network: torch.nn.Module, *, dimensions: int, size: int, steps: int, rate: float
) -> tuple[float, float]:
    """Accuracy on unseen images before and after: is there a disc?"""
    seen = discs(64, size, seed=1, dimensions=dimensions, least=0, most=1, radii=(3, 5))
    unseen = discs(64, size, seed=2, dimensions=dimensions, least=0, most=1, radii=(3, 5))
    label, truth = (part.masks.flatten(1).amax(1).long() for part in (seen, unseen))

    def accuracy() -> float:
        with torch.no_grad():
            return float((network.eval()(unseen.images).argmax(1) == truth).float().mean())

    before = accuracy()
    batch = 16

    def loss(step: int) -> torch.Tensor:
        part = torch.arange(step * batch, step * batch + batch) % 64
        return F.cross_entropy(network(seen.images[part]), label[part])

    fit(network, loss, steps=steps, rate=rate)
    return before, accuracy()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_densenet_learns_whether_there_is_a_disc(dimensions):
    torch.manual_seed(1)
    network = build_own_network(dense(dimensions))
    before, after = learned(
        network, dimensions=dimensions, size=24 if dimensions == 2 else 16, steps=50, rate=5e-3
    )
    assert before < 0.75
    assert after > 0.9


def test_a_new_last_layer_on_imagenet_features_learns_in_seconds():
    torch.manual_seed(1)
    network = build_own_network(LITE0)
    load_imagenet(network.encoder)
    seen, unseen = (discs(96, 64, seed=seed, least=0, most=1, radii=(10, 16)) for seed in (1, 2))
    label, truth = (part.masks.flatten(1).amax(1).long() for part in (seen, unseen))
    settled(network, seen.images)
    with torch.no_grad():
        vectors = network.features(seen.images)
        before = float((network(unseen.images).argmax(1) == truth).float().mean())
    fit(
        network.classifier,
        lambda _: F.cross_entropy(network.classifier(vectors), label),
        steps=100,
        rate=1e-2,
    )
    with torch.no_grad():
        after = float((network.eval()(unseen.images).argmax(1) == truth).float().mean())
    assert before < 0.75
    assert after > 0.8


@pytest.mark.parametrize("spec", [dense(2), dense(3), LITE0], ids=["dense2d", "dense3d", "lite0"])
def test_logits_are_the_mean_of_a_class_map(spec):
    """Weighting the feature layer's map by the last layer, and then pooling, gives the logits."""
    torch.manual_seed(1)
    is_lite0 = isinstance(spec, EffNetLite0ClassifierSpec)
    x = torch.randn(2, 1, *([64] * 2 if is_lite0 else [32] * spec.dimensions))
    network = settled(build_own_network(spec), x)
    last = network.classifier if is_lite0 else network.network.class_layers.out
    maps = []
    network.feature_layer.register_forward_hook(lambda _layer, _inputs, output: maps.append(output.clone()))
    with torch.no_grad():
        logits = network(x)
    class_map = torch.einsum("bc...,kc->bk...", maps[0], last.weight)
    torch.testing.assert_close(class_map.flatten(2).mean(2) + last.bias, logits, atol=1e-5, rtol=1e-4)
