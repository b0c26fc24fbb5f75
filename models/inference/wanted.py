"""PURE: heads to labels and probabilities, a piece at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal

import torch
from torch import Tensor

BACKGROUND_LOGIT = 10.0  # of what is not run: 1 in 20,000 for a structure
LOGIT_MAX = 60.0


@dataclass(frozen=True)
class Wanted:
    """What is asked of a network's heads.

    Parameters
    ----------
    heads : how many come out
    activation : that makes probabilities of them; none: they are probabilities already
    structures : the heads of label 1, of label 2, and so on; heads in none of them are background
    labels : whether the label map is wanted
    maps : the labels whose probability is wanted, too
    decided : whether the probability of the label that each voxel gets is wanted, too
    threshold : with sigmoid and none, least probability of a label; softmax takes the likeliest head
    """

    heads: int
    activation: Literal["softmax", "sigmoid", "none"]
    structures: tuple[tuple[int, ...], ...]
    labels: bool = True
    maps: tuple[int, ...] = ()
    threshold: float = 0.5
    decided: bool = False

    def __post_init__(self) -> None:
        named = [head for heads in self.structures for head in heads]
        if not self.structures or not all(self.structures) or len(set(named)) != len(named):
            raise ValueError("structures must name at least one head each, and each head once")
        if not 0 <= min(named) <= max(named) < self.heads:
            raise ValueError(f"structures name heads {sorted(named)}, there are {self.heads}")
        if len(self.structures) > 255:
            raise ValueError(f"{len(self.structures)} structures; labels are 8 bit")
        if any(not 1 <= label <= len(self.structures) for label in self.maps):
            raise ValueError(f"maps names labels {self.maps}, there are {len(self.structures)}")
        if not 0 < self.threshold < 1:
            raise ValueError("threshold must lie between 0 and 1")
        if self.decided and not self.labels:
            raise ValueError("decided needs labels")

    def label_of_head(self) -> Tensor:
        """(heads,) uint8, 0 background."""
        labels = torch.zeros(self.heads, dtype=torch.uint8)
        for number, heads in enumerate(self.structures, start=1):
            labels[list(heads)] = number
        return labels

    def background_logits(self) -> Tensor:
        """(heads,) what counts for a place that is not run: sure that nothing is there."""
        is_background = self.label_of_head() == 0
        if self.activation == "none":
            return is_background.float()
        return torch.where(is_background, BACKGROUND_LOGIT, -BACKGROUND_LOGIT)

    def outside(self) -> Tensor:
        """(heads,) probabilities where the grid had been cut: no structure."""
        return torch.zeros(self.heads)


def probabilities_of(logits: Tensor, wanted: Wanted) -> Tensor:
    """(heads, ...) logits to the probability of each head."""
    if wanted.activation == "softmax":
        return torch.softmax(logits, 0)
    if wanted.activation == "sigmoid":
        return torch.sigmoid(logits.clamp(-LOGIT_MAX, LOGIT_MAX))
    return logits


def labels_of(values: Tensor, wanted: Wanted, *, are_probabilities: bool) -> Tensor:
    """(...) uint8 labels.

    With softmax the label of the likeliest head (the first of equals), otherwise that of the strongest
    structure that reaches the threshold.

    Parameters
    ----------
    values : (heads, ...) logits, or probabilities
    """
    label_of_head = wanted.label_of_head().tolist()
    takes_likeliest = wanted.activation == "softmax"
    heads = [head for head in range(wanted.heads) if takes_likeliest or label_of_head[head]]
    labels = torch.full(values.shape[1:], label_of_head[heads[0]], dtype=torch.uint8, device=values.device)
    best = values[heads[0]].clone()
    for head in heads[1:]:
        labels.masked_fill_(values[head] > best, label_of_head[head])
        torch.maximum(best, values[head], out=best)
    if takes_likeliest:
        # Outside of a cut every head is 0: nothing is there, though some head comes first.
        return labels.masked_fill_(best <= 0, 0) if are_probabilities else labels
    is_logit = wanted.activation == "sigmoid" and not are_probabilities
    least = log(wanted.threshold / (1 - wanted.threshold)) if is_logit else wanted.threshold
    return labels.masked_fill_(best < least, 0)


def map_of(probabilities: Tensor, wanted: Wanted, label: int) -> Tensor:
    """(...) probability of a label: that any of its heads is there.

    Parameters
    ----------
    probabilities : (heads, ...) of heads
    """
    chosen = probabilities[list(wanted.structures[label - 1])]
    return chosen.amax(0) if wanted.activation == "sigmoid" else chosen.sum(0).clamp(0, 1)


def decided_map(probabilities: Tensor, wanted: Wanted, labels: Tensor) -> Tensor:
    """(...) probability of the label that each place has; 0 in the background.

    Parameters
    ----------
    probabilities : (heads, ...) of heads
    labels : (...) uint8
    """
    if all(len(heads) == 1 for heads in wanted.structures):
        # Background looks at any head and is cleared.
        head_of_label = torch.tensor([0, *(heads[0] for heads in wanted.structures)], device=labels.device)
        chosen = probabilities.gather(0, head_of_label[labels.long()][None])[0]
        return chosen.clamp(0, 1).masked_fill_(labels == 0, 0)
    result = torch.zeros_like(probabilities[0])
    for label in range(1, len(wanted.structures) + 1):
        result = torch.where(labels == label, map_of(probabilities, wanted, label), result)
    return result
