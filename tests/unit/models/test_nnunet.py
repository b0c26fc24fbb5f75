"""nnU-Net's networks, written again: the same names, and the same numbers to 1e-5."""

import json
from pathlib import Path

import nnunet_golden
import numpy as np
import pytest
import torch
from nnunet_golden.drawing import ARCHITECTURES, draw_weights
from nnunet_golden.whole_cases import WHOLE_CASES
from nnunet_model import member
from safetensors.torch import load_file

from models.adapters.nnunet_names import without_aliases
from models.adapters.nnunet_plans import network_spec, read_plan
from models.adapters.reading import Wishes
from models.adapters.refusal import ImportRefusal
from models.grid_steps import Grid, Tiling
from models.inference.structures import structures_on_grid
from models.inference.wanted import Wanted
from models.networks.nnunet import Members, NnUNet
from models.volume import Volume

GOLDEN = Path(nnunet_golden.__path__[0])
NAMES = json.loads((GOLDEN / "names.json").read_text())


def network_and_checkpoint(name: str) -> tuple[NnUNet, dict[str, torch.Tensor]]:
    """Our network with fresh weights, and a checkpoint with all of nnU-Net's names."""
    one = ARCHITECTURES[name]
    spec = network_spec(
        f"x.{one.kind}", one.arguments, in_channels=one.in_channels, heads=one.heads, where="plans"
    )
    network = NnUNet(spec)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    draw_weights(state)
    first = {}
    for key in NAMES[name]:
        plain = key.removeprefix("decoder.") if key.startswith("decoder.encoder.") else key
        head, _, tail = plain.partition(".all_modules.")
        if tail:
            number, _, leaf = tail.partition(".")
            plain = f"{head}.{'conv' if number == '0' else 'norm'}.{leaf}"
        first[key] = state[plain]
    return network, first


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_randomly_initialised_nnunet_and_ours_agree(name):
    network, checkpoint = network_and_checkpoint(name)
    network.load_state_dict(without_aliases(checkpoint, "checkpoint"), strict=True)
    stored = load_file(GOLDEN / f"{name}.safetensors")
    with torch.inference_mode():
        found = network.eval()(stored["input"])
    assert stored["logits"].std() > 0.1
    torch.testing.assert_close(found, stored["logits"], atol=1e-5, rtol=1e-5)


def test_an_alias_with_other_numbers_is_refused_by_name():
    _, checkpoint = network_and_checkpoint("plain_2d")
    key = "decoder.encoder.stages.0.0.convs.0.conv.weight"
    checkpoint[key] = checkpoint[key] + 1
    with pytest.raises(ImportRefusal, match=r"decoder\.encoder\.stages\.0\.0\.convs\.0\.conv\.weight"):
        without_aliases(checkpoint, "checkpoint")


def test_an_ensemble_is_the_mean_of_its_logits():
    networks = [network_and_checkpoint("plain_2d")[0].eval() for _ in range(3)]
    x = torch.randn(1, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(Members(networks)(x), sum(one(x) for one in networks) / 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nonlin_first": True}, "nonlin_first"),
        ({"dropout_op": "torch.nn.Dropout2d"}, "dropout_op"),
        ({"norm_op": "os.system"}, "norm_op"),
        ({"nonlin": "torch.nn.GELU"}, "nonlin"),
        ({"conv_op": "torch.nn.modules.conv.Conv1d"}, "conv_op"),
        ({"kernel_sizes": [[3, 3], [4, 3], [3, 3]]}, "odd"),
        ({"strides": [[2, 2], [2, 2], [2, 2]]}, "first stage"),
        ({"features_per_stage": [4, 8]}, "kernels has 3 entries"),
        ({"features_per_stage": [4, 8, 10**9]}, "features"),
        ({"n_conv_per_stage": "a"}, "n_conv_per_stage"),
        ({"extra": 1}, "extra"),
    ],
)
def test_an_architecture_that_is_not_known_is_refused_by_the_argument(change, words):
    one = ARCHITECTURES["plain_2d"]
    with pytest.raises(ImportRefusal, match=words):
        network_spec("x.PlainConvUNet", {**one.arguments, **change}, in_channels=1, heads=2, where="plans")


def test_another_network_class_is_refused_by_name():
    with pytest.raises(ImportRefusal, match=r"evil\.Net"):
        network_spec("evil.Net", {}, in_channels=1, heads=2, where="plans")


@pytest.mark.parametrize("name", sorted(WHOLE_CASES))
def test_a_whole_prediction_is_the_one_of_nnunets_own_predictor(name):
    """Axes, crop, normalisation, resampling, windows, mirrors, and the way back."""
    case = WHOLE_CASES[name]
    orient = Wishes().orient
    plan = read_plan(case.plans(), case.dataset(), case.configuration, orient, "plans.json")
    slices, rows, columns = case.spacing
    affine = np.diag([columns, rows, slices, 1.0])
    volume = Volume(case.image(), affine, (rows, columns), slices)
    tiling = Tiling(
        window=plan.window,
        overlap=0.5,
        blend="gaussian_nnunet",
        mirror=tuple(range(len(plan.window))),
        activation="softmax",
        lesion_heads=(1,),
    )
    found = structures_on_grid(
        volume,
        Grid(steps=plan.steps, tiling=tiling),
        member(case.network, 0),
        Wanted(plan.spec.heads, "softmax", ((1,),), maps=(1,)),
        batch=2,
        device=torch.device("cpu"),
        bytes_per_window_voxel=1,
    )
    with np.load(GOLDEN / "whole.npz") as stored:
        expected = stored[name]
    assert expected.std() > 0.01
    np.testing.assert_allclose(found.probabilities[1], expected, atol=1e-5)
