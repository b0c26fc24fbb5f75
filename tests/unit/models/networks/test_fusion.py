"""Several sequences: one may be missing, what it holds is never read, and leaving some out helps to learn."""

import pytest
import torch
from generated_discs import fit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from models.networks.building import TrainingNoise, build_own_network
from models.networks.fusion import EarlyFusion, LateFusion, masked_mean, without_some
from models.networks.own_specs import DenseNetSpec, EarlyFusionSpec, LateFusionSpec, UNetSpec
from models.networks.spec_parts import StagedEncoder

SMALL = StagedEncoder(encoder="stages", features=(4, 8), blocks=1, kind="plain")
EARLY = EarlyFusionSpec(
    registry="early_fusion@1",
    sequences=2,
    network=DenseNetSpec(
        registry="densenet@1",
        dimensions=2,
        in_channels=2,
        classes=1,
        init_features=8,
        growth=4,
        layers=(2, 2),
        norm="group",
    ),
)
LATE = LateFusionSpec(
    registry="late_fusion@1", sequences=2, in_channels=1, classes=1, encoder=SMALL, hidden=16
)
KINDS = {"early": EARLY, "late": LATE}


def network_of(kind: str, missing_share: float = 0.0) -> EarlyFusion | LateFusion:
    torch.manual_seed(3)
    network = build_own_network(KINDS[kind], TrainingNoise(missing_share=missing_share))
    assert isinstance(network, EarlyFusion | LateFusion)
    return network


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.floats(0, 0.99), st.integers(0, 1000))
def test_what_is_left_out_was_there_and_something_always_stays(cases, sequences, share, seed):
    torch.manual_seed(seed)
    present = torch.rand(cases, sequences) < 0.6
    present[:, seed % sequences] = True
    kept = without_some(present, share)
    assert not (kept & ~present).any()
    assert kept.any(1).all()
    if share == 0:
        assert bool((kept == present).all())


def test_the_share_left_out_is_the_one_asked_for():
    torch.manual_seed(0)
    kept = without_some(torch.ones(4000, 4, dtype=torch.bool), 0.3)
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=0.02)


def test_late_fusion_with_a_missing_sequence_is_the_mean_of_those_present():
    spec = LATE.model_copy(update={"sequences": 3})
    network = build_own_network(spec).eval()
    assert isinstance(network, LateFusion)
    x = torch.randn(2, 3, 1, 16, 16)
    present = torch.tensor([[True, False, True], [True, True, True]])
    with torch.no_grad():
        vectors = network.vectors(x, torch.ones_like(present))
        expected = torch.stack([(vectors[0, 0] + vectors[0, 2]) / 2, vectors[1].mean(0)])
        torch.testing.assert_close(network.features(x, present), expected)
        torch.testing.assert_close(network(x, present), network.classifier(expected))
    torch.testing.assert_close(masked_mean(vectors, present), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_missing_sequence_holds_is_not_read(kind):
    network = network_of(kind).eval()
    x, present = torch.randn(3, 2, 1, 16, 16), torch.tensor([[True, True], [True, False], [False, True]])
    filled = x.clone()
    filled[1, 1], filled[2, 0] = torch.nan, 1e9
    with torch.no_grad():
        torch.testing.assert_close(network(x, present), network(filled, present), atol=0, rtol=0)
        assert not torch.allclose(network(x, present), network(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_without_any_sequence_is_refused(kind):
    with pytest.raises(ValueError, match="without any sequence"):
        network_of(kind)(torch.zeros(1, 2, 1, 16, 16), torch.zeros(1, 2, dtype=torch.bool))


def test_early_fusion_turns_up_what_is_there():
    network = build_own_network(
        EarlyFusionSpec(
            registry="early_fusion@1",
            sequences=2,
            network=UNetSpec(
                registry="unet@1",
                dimensions=3,
                in_channels=4,
                heads=2,
                features=(2, 4),
                side_outputs=0,
                norm="group",
            ),
        )
    ).eval()
    x = torch.randn(1, 2, 2, 8, 8, 8)
    seen = []
    network.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert network(x, torch.tensor([[True, False]])).shape == (1, 2, 8, 8, 8)
    torch.testing.assert_close(seen[0], torch.cat([2 * x[:, 0], torch.zeros(1, 2, 8, 8, 8)], 1))


def cases(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch that is bright or dark in both sequences: plain in the first, faint in the second."""
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(count, generator=generator) < 0.5
    x = torch.randn(count, 2, 1, 16, 16, generator=generator)
    sign = torch.where(positive, 1.0, -1.0)[:, None, None, None]
    x[:, 0, :, 4:12, 4:12] += 3.0 * sign
    x[:, 1, :, 4:12, 4:12] += 0.3 * sign
    return x, positive


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_sequences_out_in_training_helps_when_one_is_missing(kind):
    x, positive = cases(256, seed=1)
    unseen, truth = cases(200, seed=2)
    found = {}
    for share in (0.0, 0.5):
        network = network_of(kind, share)

        def loss(step: int, network: torch.nn.Module = network) -> torch.Tensor:
            part = torch.arange(step * 16, step * 16 + 16) % 256
            return F.binary_cross_entropy_with_logits(network(x[part])[:, 0], positive[part].float())

        fit(network, loss, steps=100, rate=5e-3)
        with torch.no_grad():
            whole = network(unseen)[:, 0]
            second_only = network(unseen, torch.tensor([[False, True]]).expand(200, 2))[:, 0]
        assert float(((whole > 0) == truth).float().mean()) > 0.95
        found[share] = float(((second_only > 0) == truth).float().mean())
    assert found[0.5] > 0.85
    assert found[0.0] < 0.7
