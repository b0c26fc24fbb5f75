"""The moving average of a run, judged on the inner part of the training folds."""

from __future__ import annotations

import torch
from torch import Tensor

from config.errors import PrereadError
from models.training.objective import AnyObjective, Judgement


def judged_average(objective: AnyObjective, average: dict[str, Tensor]) -> Judgement:
    """Judge the network with the averaged weights in place of its own, which it gets back.

    A copy of the network would be simpler, but some keep outputs of their last batch and cannot be copied.

    Raises
    ------
    PrereadError
        The objective has no inner part.
    """
    network = objective.network
    own = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    try:
        with torch.inference_mode():
            judgement = objective.judge(network)
    finally:
        network.load_state_dict(own)
        network.train()
    if judgement is None:
        raise PrereadError(
            "there are no inner cases to judge with",
            where="inner",
            remedy="Give the objective cases held back by models.training.inner_part, or leave out inner.",
        )
    return judgement
