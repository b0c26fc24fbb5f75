"""What the loop asks of anything that is trained: a batch, a forward pass, the terms of the loss, a
judgement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

BatchT = TypeVar("BatchT")
OutputT = TypeVar("OutputT")
TOTAL = "total"  # the term that is minimised
PICTURED = 8


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Weights that learn at one rate: the optimizer's, or that of a pretrained encoder."""

    parameters: list[nn.Parameter]
    is_encoder: bool = False


@dataclass(frozen=True, eq=False)
class Judgement:
    """How weights do on cases that are not trained on.

    `score`: what early stopping watches, larger is better. `pictures`: (h, w, 3), at most `PICTURED`.
    """

    score: float
    figures: dict[str, float]
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)


class Objective(Protocol[BatchT, OutputT]):
    """One kind of training. A batch is a function of the generator alone: that is what makes runs resumable.

    `network` holds the weights that are averaged, stored and shipped; `module` is what is called, and gives
    the network's outputs (side outputs included). They may be the same.
    """

    @property
    def network(self) -> nn.Module:
        """Whose weights are averaged, stored and shipped."""
        ...

    @property
    def module(self) -> nn.Module:
        """What is called."""
        ...

    def groups(self) -> list[ParameterGroup]:
        """The weights that learn."""
        ...

    def draw(self, generator: Generator) -> BatchT:
        """An augmented batch on the device of the data; every random number comes from the generator."""
        ...

    def forward(self, module: nn.Module, batch: BatchT) -> OutputT:
        """Outputs of `module`, which may be wrapped for several processes."""
        ...

    def terms(self, outputs: OutputT, batch: BatchT) -> dict[str, Tensor]:
        """Terms of the loss by name, float32 scalars; `total` is minimised."""
        ...

    def judge(self, network: nn.Module) -> Judgement | None:
        """Judge a network in evaluation mode on the inner part; None when there is none."""
        ...


AnyObjective = Objective[Any, Any]


def all_weights(network: nn.Module) -> list[ParameterGroup]:
    """One group of all weights that learn; those of an `encoder` apart, as they may be pretrained."""
    encoder = getattr(network, "encoder", None)
    known = {id(one) for one in encoder.parameters()} if isinstance(encoder, nn.Module) else set()
    groups = [
        ParameterGroup(_learning(one for one in network.parameters() if id(one) in known), is_encoder=True),
        ParameterGroup(_learning(one for one in network.parameters() if id(one) not in known)),
    ]
    return [group for group in groups if group.parameters]


def _learning(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
