"""The faster layout is chosen, when it computes the right thing; the choice is kept."""

import json
from itertools import count

import numpy as np
import pytest
import torch

from models.inference.layout import (
    PLAIN,
    LaidOut,
    Layout,
    chosen_layout,
    fastest_first,
    keep_layout,
    kept_layout,
    layouts,
    seconds_of,
)
from models.inference.tuning import example_batch, tune
from models.package import load_package
from models.predictor import Predictor

LAST, HALF = Layout(channels_last=True), Layout(dtype="bfloat16")


def conv_net(dimensions: int) -> torch.nn.Module:
    torch.manual_seed(0)
    conv = torch.nn.Conv3d if dimensions == 3 else torch.nn.Conv2d
    return torch.nn.Sequential(conv(1, 8, 3, padding=1), torch.nn.ReLU(), conv(8, 2, 3, padding=1)).eval()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_layout_computes_the_same_and_bfloat16_nearly(dimensions):
    network = conv_net(dimensions)
    x = torch.randn(2, 1, *(8,) * dimensions)
    with torch.inference_mode():
        expected = network(x)
        for layout in layouts(bfloat16=True):
            found = LaidOut(network, layout)(x).float()
            rough = layout.dtype == "bfloat16"
            torch.testing.assert_close(found, expected, atol=0.05 if rough else 1e-5, rtol=0)
            assert (found - expected).abs().max() > 0 or not rough
            assert (network[2].weight.stride()[1] == 1) == layout.channels_last


def test_time_is_measured_in_turns_and_the_first_run_does_not_count():
    """A clock that ticks once for each reading, and a network that is slow at first."""
    ticks = count()
    calls = []

    class Slow(torch.nn.Module):
        def forward(self, x):
            calls.append(len(x))
            if len(calls) <= 2:
                for _ in range(1000):
                    next(ticks)
            return x

    found = seconds_of(Slow(), torch.zeros(1, 1, 4, 4), (PLAIN, LAST), runs=3, clock=lambda: next(ticks))
    assert found == {PLAIN: 1, LAST: 1}
    assert len(calls) == 8


def test_the_plain_way_stays_unless_another_is_clearly_faster():
    assert fastest_first({PLAIN: 1.0, LAST: 0.97}) == [PLAIN]
    assert fastest_first({PLAIN: 1.0, LAST: 0.8, HALF: 0.5}) == [HALF, LAST, PLAIN]
    assert fastest_first({PLAIN: 1.0, LAST: 1.5}) == [PLAIN]


def test_bfloat16_is_used_only_where_the_golden_case_passes():
    assert chosen_layout([HALF, LAST, PLAIN], lambda _: True) == HALF
    assert chosen_layout([HALF, LAST, PLAIN], lambda _: False) == LAST


def test_the_choice_is_kept_and_a_damaged_file_is_measured_again(tmp_path):
    path = tmp_path / "run" / "layout.json"
    assert kept_layout(path) is None
    keep_layout(path, HALF, {PLAIN: 0.5, HALF: 0.25})
    assert kept_layout(path) == HALF
    assert [one["seconds"] for one in json.loads(path.read_text())["measured"]] == [0.5, 0.25]
    for text in ("{", "[]", '{"layout": {"dtype": "int4"}}', '{"layout": {"colour": 1}}'):
        path.write_text(text)
        assert kept_layout(path) is None


def test_a_package_is_tuned_once_and_computes_what_its_golden_case_says(package, tmp_path):
    predictor = Predictor(package, device="cpu")
    tune(predictor, tmp_path)
    (path,) = tmp_path.iterdir()
    measured = json.loads(path.read_text())["measured"]
    assert len(measured) == 2  # bfloat16 is tried only where the package says so
    assert predictor.verify_golden().passed
    # The file decides from now on, whatever is faster today.
    keep_layout(path, HALF, {})
    again = Predictor(package, device="cpu")
    tune(again, tmp_path)
    assert again.layout == HALF


def test_bfloat16_is_tried_where_the_package_allows_it(package_folder, rewrite, tmp_path):
    rewrite(lambda content: content["runtime"].update(bfloat16=["cpu"]))
    predictor = Predictor(load_package(package_folder), device="cpu")
    tune(predictor, tmp_path / "run")
    (path,) = (tmp_path / "run").iterdir()
    assert len(json.loads(path.read_text())["measured"]) == 4
    assert predictor.verify_golden().passed


def test_the_example_has_the_shape_of_what_the_network_gets(package):
    example = example_batch(package.manifest, torch.device("cpu"))
    assert example.shape[:2] == (1, package.manifest.network.in_channels)
    assert min(example.shape[2:]) >= 32
    assert np.isfinite(Predictor(package, device="cpu").network(example).lesion.detach().numpy()).all()


def test_a_network_that_was_measured_can_still_be_differentiated() -> None:
    network = conv_net(2).requires_grad_(False)
    seconds_of(network, torch.zeros(1, 1, 8, 8), layouts(bfloat16=False), runs=1)
    # What was tried last comes first: its weights are not laid out again.
    for layout in reversed(layouts(bfloat16=False)):
        image = torch.ones(1, 1, 8, 8, requires_grad=True)
        LaidOut(network, layout)(image).sum().backward()
        assert image.grad is not None
        assert bool(image.grad.any())
