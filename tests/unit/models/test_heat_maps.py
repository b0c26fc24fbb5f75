"""Grad-CAM and occlusion: closed forms, MONAI's answers, and the way back to the source."""

import numpy as np
import pytest
import torch
from torch import nn

from models.explanation import attending
from models.explanation.attending import DEFAULT_LAYER, Recipe, attend, shown_attention
from models.explanation.attention import heat_over, to_unit
from models.explanation.grad_cam import grad_cam
from models.explanation.occlusion import occlusion
from models.predictor import Predictor
from models.volume import Volume


def small_network(dimensions: int) -> nn.Module:
    """Two convolutions, a pool and two classes."""
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    pool = nn.AdaptiveAvgPool2d if dimensions == 2 else nn.AdaptiveAvgPool3d
    torch.manual_seed(7)
    return nn.Sequential(
        convolution(1, 4, 3, padding=1, stride=2),
        nn.ReLU(),
        convolution(4, 6, 3, padding=1),
        nn.ReLU(),
        pool(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()


def image(dimensions: int) -> torch.Tensor:
    return torch.rand((1, 1, *([24] * dimensions)), generator=torch.Generator().manual_seed(3))


def class_one(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 1]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_grad_cam_is_that_of_monai(dimensions) -> None:
    from monai.visualize.class_activation_maps import GradCAM

    network, batch = small_network(dimensions), image(dimensions)
    theirs = GradCAM(network, target_layers="2", postprocessing=lambda heat: heat)(batch, class_idx=1)
    ours = grad_cam(network, network[2], batch, class_one)
    assert ours.shape == batch.shape[:1] + batch.shape[2:]
    assert float(ours.max()) > 0
    assert torch.allclose(ours, theirs[:, 0], atol=1e-6)


def test_grad_cam_of_a_pooled_layer_is_its_maps_weighted_by_the_last_weights() -> None:
    network, batch = small_network(2), image(2)
    with torch.no_grad():
        maps = network[:4](batch)
        weighted = (maps * network[6].weight[1][None, :, None, None]).sum(1) / maps[0, 0].numel()
    expected = torch.relu(weighted)
    assert float(expected.max()) > 0
    larger = nn.functional.interpolate(expected[:, None], size=24, mode="bilinear")[:, 0]
    found = grad_cam(network, network[3], batch, class_one)
    assert torch.allclose(found, larger, rtol=1e-4, atol=1e-8)


def test_each_sample_of_a_batch_has_the_map_it_has_alone() -> None:
    network = small_network(2)
    batch = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(4))
    together = grad_cam(network, network[2], batch, class_one)
    alone = torch.cat([grad_cam(network, network[2], one[None], class_one) for one in batch])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_layer_that_gives_no_map_or_that_the_score_does_not_read_is_refused() -> None:
    network = small_network(2)
    with pytest.raises(ValueError, match="gives no map"):
        grad_cam(network, network[6], image(2), class_one)
    with pytest.raises(ValueError, match="does not depend"):
        grad_cam(network, network[2], image(2), lambda _: torch.zeros(1, requires_grad=True))


# MONAI 1.6 indexes with lists, which torch dislikes.
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_occlusion_is_that_of_monai() -> None:
    from monai.visualize import OcclusionSensitivity

    network, batch = small_network(2), image(2)
    tool = OcclusionSensitivity(network, mask_size=8, mode=0.0, overlap=0.0, activate=False, verbose=False)
    theirs, _ = tool(batch)
    with torch.no_grad():
        whole = float(network(batch)[0, 1])
    ours = occlusion(network, batch, class_one, patch=8, stride=8, fill=0.0)
    assert float(ours.abs().max()) > 1e-4
    assert torch.allclose(ours[0], whole - torch.as_tensor(theirs[0, 1]), atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_occlusion_of_a_sum_is_what_the_patches_held(dimensions) -> None:
    batch = torch.zeros((1, 1, *([10] * dimensions)))
    batch[(0, 0, *([slice(4, 6)] * dimensions))] = 1.0
    total = nn.Flatten()
    heat = occlusion(total, batch, lambda values: values.sum(1), patch=4, stride=2, fill=0.0, at_once=3)[0]
    assert float(heat.max()) == 2.0**dimensions
    assert float(heat[(0,) * dimensions]) == 0.0
    assert (heat[(slice(4, 6),) * dimensions] > 0).all()


def test_patches_with_gaps_between_them_are_refused() -> None:
    with pytest.raises(ValueError, match="gaps"):
        occlusion(small_network(2), image(2), class_one, patch=4, stride=5, fill=0.0)


def test_heat_is_scaled_to_its_highest_place_and_what_speaks_against_the_class_is_left_out() -> None:
    assert to_unit(np.array([-1.0, 1.0, 4.0])).tolist() == [0.0, 0.25, 1.0]
    assert to_unit(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


def test_a_picture_without_heat_stays_grey_and_with_heat_gets_colour() -> None:
    grey = np.array([[10, 200]], np.uint8)
    cold = heat_over(grey, np.zeros((1, 2), np.float32))
    assert (cold == grey[..., None]).all()
    warm = heat_over(grey, np.ones((1, 2), np.float32)).astype(int)
    assert (warm[..., 0] > warm[..., 2] + 40).all()


@pytest.fixture(scope="module")
def predictor(original_package):
    from models.package import load_package

    return Predictor(load_package(original_package), device="cpu")


def picture(rows=90, columns=140) -> Volume:
    pixels = np.random.default_rng(5).integers(40, 90, (1, rows, columns)).astype(np.uint8)
    pixels[0, 20:50, 30:70] = 180
    return Volume(pixels)


@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_a_map_lies_on_the_source_and_turns_with_it(predictor, method, monkeypatch) -> None:
    monkeypatch.setattr(attending, "PATCH", 128)
    monkeypatch.setattr(attending, "STRIDE", 64)
    recipe = Recipe(method, DEFAULT_LAYER if method == "grad-cam" else None)
    manifest = predictor.package.manifest
    volume = picture()
    made = attend(predictor.network, predictor.device, manifest, volume, "malignant", recipe)
    assert made.heat.shape == volume.shape
    assert float(made.heat.min()) >= 0.0
    assert float(made.heat.max()) == 1.0
    mirrored = Volume(np.ascontiguousarray(volume.array[:, :, ::-1]))
    turned = attend(predictor.network, predictor.device, manifest, mirrored, "malignant", recipe)
    # Image and mirror image are both read, so the maps of the two are mirror images.
    assert np.allclose(turned.heat[:, :, ::-1], made.heat, atol=1e-3)


def test_each_class_has_a_map_of_its_own(predictor) -> None:
    maps = [
        attend(
            predictor.network,
            predictor.device,
            predictor.package.manifest,
            picture(),
            name,
            Recipe("grad-cam", DEFAULT_LAYER),
        ).heat
        for name in ("benign", "malignant")
    ]
    assert np.abs(maps[0] - maps[1]).max() > 0.05


def test_a_package_without_the_block_shows_nothing(predictor) -> None:
    manifest = predictor.package.manifest
    assert manifest.explain is None
    assert shown_attention(predictor.network, predictor.device, manifest, picture(), "malignant") is None
