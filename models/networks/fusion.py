"""Several sequences of one patient read together, also when one is missing.

Early: sequences are channels of one network; a missing one is the mean intensity (0), the others are louder,
as dropout does it. Late: an encoder for each sequence and the mean of the vectors of those present, so a
missing one is simply not in the mean. Both learn with whole sequences left out at random; what a missing
sequence holds is never read. Parameters are counted in docs/networks.md.

Source: Havaei, HeMIS, arXiv 1607.05194 (mean over what is there); Neverova, ModDrop, arXiv 1501.00102.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.networks.conv_unet import SupervisedLogits
from models.networks.features import featured
from models.networks.image_encoders import build_image_encoder, image_vectors, last_layer, map_channels
from models.networks.own_specs import EarlyFusionSpec, LateFusionSpec


def without_some(present: Tensor, share: float) -> Tensor:
    """Leave out sequences at random, never the last of a case: (B, M) -> (B, M) bool.

    Draws from torch's global generator.
    """
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    kept = present & (draw >= share)
    surest = torch.zeros_like(present).scatter_(1, draw.argmax(1, keepdim=True), True)
    return torch.where(kept.any(1, keepdim=True), kept, surest & present)


def _present(x: Tensor, present: Tensor | None) -> Tensor:
    """(B, M) bool; every case must have a sequence."""
    if present is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if not bool(present.any(1).all()):
        raise ValueError("a case without any sequence cannot be read")
    return present.to(x.device)


class EarlyFusion(nn.Module):
    """(B, M, channels, ...) -> what the network inside gives of (B, M * channels, ...).

    Inputs are standardised, so that 0 is an unsurprising value.
    """

    def __init__(
        self, spec: EarlyFusionSpec, build: Callable[[], nn.Module], *, missing_share: float = 0.0
    ) -> None:
        super().__init__()
        self.sequences, self.missing_share = spec.sequences, missing_share
        self.network = build()

    @property
    def feature_layer(self) -> nn.Module:
        """That of the network inside."""
        return featured(self.network).feature_layer

    def features(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """(B, M, channels, ...) -> (B, c)."""
        return featured(self.network).features(self._joined(x, _present(x, present)))

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor | SupervisedLogits:
        """Logits of one batch; `present` (B, M) bool, None: all are."""
        here = _present(x, present)
        if self.training:
            here = without_some(here, self.missing_share)
        found: Tensor | SupervisedLogits = self.network(self._joined(x, here))
        return found

    def _joined(self, x: Tensor, present: Tensor) -> Tensor:
        shape = (*present.shape, *(1,) * (x.dim() - 2))
        louder = self.sequences / present.sum(1).view(-1, *(1,) * (x.dim() - 1))
        filled = x.masked_fill(~present.view(shape), 0.0) * louder
        return filled.flatten(1, 2)  # (B, M, channels, ...) -> (B, M * channels, ...)


class LateFusion(nn.Module):
    """(B, M, in_channels, H, W) -> (B, classes) logits."""

    def __init__(self, spec: LateFusionSpec, *, dropout: float = 0.0, missing_share: float = 0.0) -> None:
        super().__init__()
        self.missing_share = missing_share
        self.hidden = spec.hidden
        self.encoders = nn.ModuleList(
            build_image_encoder(spec.encoder, spec.in_channels)
            for _ in range(1 if spec.shared else spec.sequences)
        )
        # Vectors of different encoders mean different things until each has been brought into one space.
        self.narrow = nn.ModuleList(
            nn.Linear(map_channels(spec.encoder)[-1], spec.hidden) for _ in range(spec.sequences)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(spec.hidden, spec.classes)

    @property
    def feature_layer(self) -> nn.Module:
        """The last layer of the first sequence's encoder: (cases that have it, c, H/stride, W/stride)."""
        return last_layer(self.encoders[0])  # type: ignore[arg-type]  # a ModuleList forgets the kind

    def features(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """(B, M, in_channels, H, W) -> (B, hidden), the mean that the classes are read from."""
        here = _present(x, present)
        return masked_mean(self.vectors(x, here), here)

    def vectors(self, x: Tensor, present: Tensor) -> Tensor:
        """(B, M, in_channels, H, W) -> (B, M, hidden); 0 where a sequence is missing."""
        out = []
        for index, narrow in enumerate(self.narrow):
            here = present[:, index]
            own = torch.zeros(len(x), self.hidden, device=x.device)
            if bool(here.any()):
                encoder = self.encoders[min(index, len(self.encoders) - 1)]
                vector = image_vectors(encoder, x[here, index])  # type: ignore[arg-type]
                own = own.index_put((here,), torch.relu(narrow(vector)).float())
            out.append(own)
        return torch.stack(out, 1)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits of one batch; `present` (B, M) bool, None: all are."""
        here = _present(x, present)
        if self.training:
            here = without_some(here, self.missing_share)
        logits: Tensor = self.classifier(self.dropout(masked_mean(self.vectors(x, here), here)))
        return logits


def masked_mean(vectors: Tensor, present: Tensor) -> Tensor:
    """Mean over the sequences that are there: (B, M, c), (B, M) -> (B, c)."""
    weight = present[..., None].to(vectors.dtype)
    return (vectors * weight).sum(1) / weight.sum(1)
