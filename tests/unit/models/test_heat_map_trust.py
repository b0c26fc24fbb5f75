"""The trust tests tell a map that shows the model from one that does not, and packages are held to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from heat_maps import LAYER, declare, passed_block, sanity
from pydantic import ValidationError
from torch import nn

from models.explanation.attending import Recipe, shown_attention
from models.explanation.block import Explain
from models.explanation.grad_cam import grad_cam
from models.explanation.judging import Judged, attention_sheet, block_of, write_judged
from models.explanation.likeness import likeness
from models.explanation.packing import write_block
from models.explanation.shuffled import cascade
from models.explanation.trust import Explained, Subject, measure_trust, moved, sanity_of, shares_inside
from models.package import PackageError, load_package
from models.predictor import Predictor
from models.preprocess import Prepared, Turn, fit_canvas
from models.training.cases import Case
from models.volume import Volume

SIDE = 48
CPU = torch.device("cpu")


class SpotNetwork(nn.Module):
    """Its class score is how much of its first filter, a blurred spot, there is; the others see texture."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.filters = nn.Conv2d(1, 8, 9, padding=4)
        self.score = nn.Linear(8, 2)
        weight = torch.randn(8, 1, 9, 9, generator=generator) * 0.2
        steps = torch.arange(9) - 4.0
        spot = torch.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / 12)
        weight[0, 0] = spot - spot.mean()
        with torch.no_grad():
            self.filters.weight.copy_(weight - weight.mean((2, 3), keepdim=True))
            self.filters.bias.zero_()
            self.score.weight.zero_()
            self.score.weight[1, 0] = 1.0
            self.score.weight[0, 1:] = 0.05
            self.score.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(torch.relu(self.filters(x)).mean((2, 3)))


def by_grad_cam(network, batch, index):
    return grad_cam(network, network.filters, batch, lambda logits: logits[:, index])


def by_edges(network, batch, index):
    """What looks like an explanation and is a filter of the picture: no weight is read."""
    down, across = torch.gradient(batch[:, 0], dim=(1, 2))
    return (down**2 + across**2).sqrt()


def by_middle(network, batch, index):
    """The guess that findings lie in the middle."""
    steps = torch.linspace(-1, 1, SIDE)
    return torch.exp(-4 * (steps[:, None] ** 2 + steps[None] ** 2)).expand(len(batch), -1, -1)


def by_chance(network, batch, index):
    """Another map at each look."""
    seed = int(batch.double().sum() * 1e6) % 2**31
    return torch.rand(batch.shape[0], SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def spots(maker, count=12):
    """Images with one spot each, their truth, and maps by `maker`."""
    network = SpotNetwork().eval()
    subject = Subject(network, maker, flip=False, device=CPU)
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    explained = []
    for number in range(count):
        row, column = rng.uniform(10, SIDE - 10, 2)
        distance = (rows - row) ** 2 + (columns - column) ** 2
        pixels = (0.8 * np.exp(-distance / 12) + 0.1 * rng.random((SIDE, SIDE))).astype(np.float32)[None]
        mask = (distance <= 25)[None]
        case = Case(f"spot_{number}", f"group_{number}", "spot", Volume(pixels.copy()), mask, "spot")
        prepared = Prepared(pixels, Turn(), fit_canvas(SIDE, SIDE, SIDE, SIDE))
        stacked = pixels[:, None].copy()
        explained.append(Explained(case, prepared, stacked, 1, "spot", subject.heat(stacked, 1)))
    return subject, explained


def judged(maker) -> Judged:
    subject, explained = spots(maker)
    figures = measure_trust(subject, explained)
    found = sanity_of(
        figures, Recipe("grad-cam", "filters"), dataset="spots", split_sha256="0" * 64, subset="scored"
    )
    return Judged(block_of(found), figures, tuple(explained))


def test_a_map_that_follows_weights_and_lesion_passes() -> None:
    block = judged(by_grad_cam).block
    assert block.sanity.faults == ()
    assert (block.method, block.layer) == ("grad-cam", "filters")
    assert block.sanity.n == block.sanity.n_lesions == 12
    assert block.sanity.energy_ratio > 5


def test_a_map_that_ignores_the_weights_does_not_pass() -> None:
    block = judged(by_edges).block
    assert block.method == "none"
    assert block.sanity.ssim_randomised == 1.0
    assert "shuffled weights make nearly the same map" in block.sanity.faults


def test_a_map_of_the_middle_fails_by_weights_and_by_place() -> None:
    faults = judged(by_middle).block.sanity.faults
    assert "shuffled weights make nearly the same map" in faults
    assert "too little of its heat lies inside the lesion" in faults


def test_a_map_that_jumps_when_the_image_moves_does_not_pass() -> None:
    faults = judged(by_chance).block.sanity.faults
    assert "it changes when the image is moved by two pixels" in faults


def test_likeness_is_one_for_the_same_map_and_falls_with_difference() -> None:
    one = np.random.default_rng(0).random((2, 30, 40)).astype(np.float32)
    assert likeness(one, one) == pytest.approx(1)
    near, far = likeness(one, np.clip(one + 0.05, 0, 1)), likeness(one, one[:, ::-1])
    assert far < near < 1


def test_the_cascade_shuffles_from_the_last_layer_to_the_first_and_leaves_the_network_alone() -> None:
    network = SpotNetwork().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    shares, states = [], []
    for share, shuffled in cascade(network, seed=1):
        shares.append(share)
        states.append({key: value.clone() for key, value in shuffled.state_dict().items()})
    assert shares[0] == 0.5
    assert shares[-1] == 1.0
    assert torch.equal(states[0]["filters.weight"], before["filters.weight"])
    assert not torch.equal(states[0]["score.weight"], before["score.weight"])
    assert not torch.equal(states[-1]["filters.weight"], before["filters.weight"])
    for key, value in before.items():
        assert torch.equal(states[-1][key].flatten().sort().values, value.flatten().sort().values)
        assert torch.equal(network.state_dict()[key], value)


def test_shares_inside_a_mask_are_those_of_heat_and_of_image() -> None:
    heat = np.zeros((1, 10, 10), np.float32)
    heat[0, :5] = 1
    mask = np.zeros((1, 10, 10), bool)
    mask[0, 4:6, :5] = True
    assert shares_inside(heat, mask) == (0.1, 0.1)
    assert shares_inside(heat * 0, mask) == (None, None)
    assert shares_inside(heat, mask & False) == (None, None)


def test_a_shift_moves_whole_pixels_and_repeats_the_border() -> None:
    stack = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    assert moved(stack, 1, 0)[0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert moved(stack, 0, -2)[0, 0].tolist() == [2, 3, 3, 3]


@pytest.mark.parametrize(
    ("figures", "fault"),
    [
        ({"ssim_difference_ci95": (-0.3, 0.0)}, "shuffled weights"),
        ({"energy_ratio_ci95": (1.99, 4.0)}, "too little"),
        ({"shift_ssim_ci95": (0.79, 0.9)}, "moved by two pixels"),
    ],
)
def test_a_package_cannot_declare_a_map_whose_figures_fail(figures, fault) -> None:
    with pytest.raises(ValidationError, match=fault):
        Explain(method="grad-cam", layer=LAYER, sanity=sanity(**figures))
    assert block_of(sanity(**figures)).method == "none"


def test_a_package_cannot_declare_another_map_than_was_tested() -> None:
    with pytest.raises(ValidationError, match="what its sanity tested"):
        Explain(method="grad-cam", layer="encoder.head", sanity=sanity())


def test_the_block_is_written_into_the_package_and_nothing_else_changes(package_folder) -> None:
    before = load_package(package_folder)
    after = declare(package_folder)
    assert after.digest != before.digest
    assert after.manifest.explain == passed_block()
    assert after.manifest.model_copy(update={"explain": None}) == before.manifest
    with pytest.raises(PackageError, match="changed while it was judged"):
        write_block(before, passed_block())


def test_a_map_is_shown_for_findings_of_a_package_that_passed_and_not_otherwise(package_folder) -> None:
    predictor = Predictor(declare(package_folder), device="cpu")
    manifest = predictor.package.manifest
    volume = Volume(np.random.default_rng(5).integers(0, 200, (1, 80, 100)).astype(np.uint8))

    def shown(one, name):
        return shown_attention(predictor.network, CPU, one, volume, name)

    assert shown(manifest, "malignant").heat.shape == volume.shape
    assert shown(manifest, "normal") is None
    failed = block_of(sanity(shift_ssim_ci95=(0.1, 0.2)))
    assert shown(manifest.model_copy(update={"explain": failed}), "malignant") is None
    assert shown(manifest.model_copy(update={"explain": None}), "malignant") is None


def test_the_sheet_shows_the_heat_of_each_case(tmp_path) -> None:
    one = judged(by_grad_cam)
    sheet = attention_sheet(one)
    cold = replace(one, explained=tuple(replace(e, heat=e.heat * 0) for e in one.explained))
    assert sheet.shape == attention_sheet(cold).shape
    assert (sheet != attention_sheet(cold)).any()
    write_judged(one, "ab" * 32, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"explain.json", "attention.png"}
