import pytest
import torch
from torch import nn

from config.errors import PrereadError
from models.networks.building import build_grid_network
from models.networks.registry import MonaiDynUNetSpec
from models.training.side_outputs import SideOutputs
from models.training.smoke_volumes import smoke_network

DYNUNET = MonaiDynUNetSpec(
    registry="monai_dynunet@1",
    dimensions=2,
    in_channels=1,
    heads=3,
    kernel_size=((3, 3),) * 4,
    strides=((1, 1), (2, 2), (2, 2), (2, 2)),
    upsample_kernel_size=((2, 2),) * 3,
    filters=(4, 6, 8, 8),
    norm="instance_affine",
    deep_supervision=True,
    deep_supr_num=2,
)


def image():
    return torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))


def test_the_finest_output_is_what_the_network_predicts():
    network = smoke_network()
    fine, coarse = SideOutputs(network, 2)(image())
    assert torch.equal(fine, network(image()))
    assert coarse.shape == (2, 3, 8, 8, 8)


def test_the_decoder_learns_from_every_output():
    network = smoke_network()
    heads = network.members[0].decoder.seg_layers
    for number in range(2):
        network.zero_grad()
        SideOutputs(network, 2)(image())[number].square().sum().backward()
        assert [head.weight.grad is not None for head in heads] == [number == 1, number == 0]


def test_outputs_that_are_not_asked_for_do_not_learn():
    network = smoke_network()
    SideOutputs(network, 1)
    learning = {name for name, one in network.named_parameters() if not one.requires_grad}
    assert learning == {"members.0.decoder.seg_layers.0.weight", "members.0.decoder.seg_layers.0.bias"}


def test_dynunet_gives_its_outputs_in_training_only():
    network = build_grid_network(DYNUNET)
    outputs = SideOutputs(network.train(), 3)(torch.randn(1, 1, 32, 32))
    assert [one.shape for one in outputs] == [(1, 3, 32, 32)] * 3
    (only,) = SideOutputs(network.eval(), 3)(torch.randn(1, 1, 32, 32))
    assert only.shape == (1, 3, 32, 32)


class OfOurOwn(nn.Module):
    """Gives a tuple in training, one layer of `side` for each coarser output."""

    def __init__(self):
        super().__init__()
        self.head, self.side = (
            nn.Conv2d(1, 2, 1),
            nn.ModuleList([nn.Conv2d(1, 2, 2, 2), nn.Conv2d(1, 2, 4, 4)]),
        )

    def forward(self, x):
        logits = self.head(x)
        return (logits, [layer(x) for layer in self.side]) if self.training else logits


def test_a_network_that_gives_a_tuple_in_training_is_understood():
    network = OfOurOwn()
    outputs = SideOutputs(network, 2)(torch.randn(1, 1, 8, 8))
    assert [one.shape[2:] for one in outputs] == [(8, 8), (4, 4)]
    assert not network.side[1].weight.requires_grad
    assert len(SideOutputs(network.eval(), 2)(torch.randn(1, 1, 8, 8))) == 1


def test_more_outputs_than_the_network_has_are_refused_with_the_remedy():
    with pytest.raises(PrereadError, match="2 outputs to learn from, 3 are asked for"):
        SideOutputs(smoke_network(), 3)
