"""Networks over the slices of a series: padding is nothing, order is something, context is used."""

import pytest
import torch
from generated_discs import fit
from networks_of_every_kind import settled
from torch.nn import functional as F

from models.networks.building import build_own_network
from models.networks.own_specs import SliceAttentionSpec, SliceLstmSpec
from models.networks.slice_sequence import SliceSequence, position_code
from models.networks.spec_parts import Lite0Encoder, StagedEncoder

KINDS = ("slice_lstm@1", "slice_attention@1")
SMALL = StagedEncoder(encoder="stages", features=(4, 8), blocks=1, kind="plain")


def network_of(
    kind: str, *, encoder=SMALL, classes: int = 1, layers: int = 1, **noise: float
) -> SliceSequence:
    torch.manual_seed(3)
    spec = {"slice_lstm@1": SliceLstmSpec, "slice_attention@1": SliceAttentionSpec}[kind]
    network = build_own_network(
        spec(registry=kind, in_channels=1, classes=classes, encoder=encoder, hidden=32, layers=layers)
    )
    assert isinstance(network, SliceSequence)
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoder", [SMALL, Lite0Encoder(encoder="effnet_lite0")], ids=["stages", "lite0"])
def test_padding_does_not_change_the_answer(kind, encoder):
    x = torch.randn(2, 6, 1, 32, 32)
    network = settled(network_of(kind, encoder=encoder, classes=3, layers=2), x)
    counts = torch.tensor([4, 6])
    filled = x.clone()
    filled[0, 4:] = 1e6
    with torch.no_grad():
        alone = network(x[:1, :4])
        padded, otherwise = network(x, counts), network(filled, counts)
    torch.testing.assert_close(padded.study[:1], alone.study, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded.slices[:1, :4], alone.slices, atol=1e-5, rtol=1e-4)
    assert not padded.slices[0, 4:].any()
    torch.testing.assert_close(padded, otherwise, atol=0, rtol=0)
    torch.testing.assert_close(network.features(x, counts), network.features(filled, counts))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_the_gradient(kind):
    network = network_of(kind).train()
    x, counts = torch.randn(2, 5, 1, 16, 16), torch.tensor([3, 5])
    gradients = []
    for padding in (0.0, 50.0):
        x[0, 3:] = padding
        network.zero_grad()
        network(x, counts).study.sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients, atol=0, rtol=0)


def test_the_lstm_knows_the_order_of_slices():
    network = network_of("slice_lstm@1").eval()
    x = torch.randn(1, 5, 1, 16, 16)
    with torch.no_grad():
        forwards, backwards = network(x), network(x.flip(1))
    assert not torch.allclose(forwards.study, backwards.study, atol=1e-5)
    assert not torch.allclose(forwards.slices, backwards.slices.flip(1), atol=1e-5)


def test_attention_knows_positions_and_nothing_else_of_the_order():
    network = network_of("slice_attention@1").eval()
    x, at = torch.randn(1, 5, 1, 16, 16), torch.arange(5)[None]
    with torch.no_grad():
        plain, turned = network(x), network(x.flip(1))
        both_turned = network(x.flip(1), positions=at.flip(1))
    assert not torch.allclose(plain.study, turned.study, atol=1e-5)
    torch.testing.assert_close(both_turned.slices.flip(1), plain.slices, atol=1e-5, rtol=1e-4)


def test_codes_of_different_positions_differ():
    code = position_code(torch.arange(300)[None], 16)[0]
    assert code.shape == (300, 16)
    assert (torch.cdist(code, code) + torch.eye(300)).min() > 0.05


@pytest.mark.parametrize("counts", [[0, 3], [4, 2]])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="1 to 3"):
        network_of("slice_lstm@1")(torch.zeros(2, 3, 1, 16, 16), torch.tensor(counts))


def series(count: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Slices with a bright or dark patch; a slice is positive when the one before it is bright, so a slice
    says nothing about itself. The first slice is never positive. 4 to 8 real slices.
    """
    generator = torch.Generator().manual_seed(seed)
    bright = torch.rand(count, 8, generator=generator) < 0.5
    x = 0.3 * torch.randn(count, 8, 1, 16, 16, generator=generator)
    x[:, :, :, 4:12, 4:12] += torch.where(bright, 1.0, -1.0)[..., None, None, None]
    positive = torch.zeros_like(bright)
    positive[:, 1:] = bright[:, :-1]
    return x, positive, torch.randint(4, 9, (count,), generator=generator)


def accuracy(network: SliceSequence, *, alone: bool) -> float:
    """Over slices that have one before them."""
    x, positive, counts = series(64, seed=2)
    real = torch.arange(8)[None] < counts[:, None]
    real[:, 0] = False
    with torch.no_grad():
        found = (
            network(x.flatten(0, 1)[:, None]).slices.view(64, 8)
            if alone
            else network(x, counts).slices[..., 0]
        )
    return float(((found > 0) == positive)[real].float().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_needs_the_slice_before_and_single_slices_do_not(kind):
    def trained(alone: bool) -> SliceSequence:
        network = network_of(kind)
        x, positive, counts = series(128, seed=1)

        def loss(step: int) -> torch.Tensor:
            part = torch.arange(step * 16, step * 16 + 16) % 128
            real = (torch.arange(8)[None] < counts[part][:, None]) & (torch.arange(8) > 0)
            if alone:
                found = network(x[part].flatten(0, 1)[:, None]).slices.view(16, 8)
            else:
                found = network(x[part], counts[part]).slices[..., 0]
            return F.binary_cross_entropy_with_logits(found[real], positive[part].float()[real])

        fit(network, loss, steps=120, rate=5e-3)
        return network

    assert accuracy(trained(alone=False), alone=False) > 0.95
    assert accuracy(trained(alone=True), alone=True) < 0.65
