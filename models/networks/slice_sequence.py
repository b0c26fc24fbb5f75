"""Slices of a series read together: an encoder for each slice, then a BiLSTM or self-attention over all.

Series differ in length: a batch is padded at the end and `counts` says how many slices are real. Padding is
neither encoded nor looked at, so it changes nothing, not even batch statistics. Attention knows no order of
its own; it gets a code of each slice's position, in slices or in any unit the caller keeps to.
Parameters are counted in docs/networks.md.

Source: Hochreiter, Schmidhuber 1997; Vaswani, arXiv 1706.03762; Ilse, arXiv 1802.04712 (attention pooling).
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.networks.image_encoders import build_image_encoder, image_vectors, last_layer, map_channels
from models.networks.own_specs import SliceAttentionSpec, SliceLstmSpec

WAVELENGTH_MAX = 512.0  # slices; the shortest is 2 pi


class SeriesScores(NamedTuple):
    """Logits; those of padding are 0."""

    slices: Tensor  # (B, S, classes)
    study: Tensor  # (B, classes)


class SliceLstm(nn.Module):
    """Reads a series from both ends; every slice knows what came before and what follows."""

    def __init__(self, spec: SliceLstmSpec, *, dropout: float) -> None:
        super().__init__()
        between = dropout if spec.layers > 1 else 0.0  # torch's: between layers
        self.lstm = nn.LSTM(
            spec.hidden, spec.hidden // 2, spec.layers, batch_first=True, dropout=between, bidirectional=True
        )

    def forward(self, h: Tensor, real: Tensor, _positions: Tensor) -> Tensor:
        """(B, S, hidden) -> (B, S, hidden)."""
        counts = real.sum(1).cpu()
        packed = pack_padded_sequence(h, counts, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=h.shape[1])
        return out


class SliceAttention(nn.Module):
    """Every slice looks at every other, and knows where each lies."""

    def __init__(self, spec: SliceAttentionSpec, *, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            spec.hidden,
            spec.attention_heads,
            2 * spec.hidden,
            dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, spec.layers, norm=nn.LayerNorm(spec.hidden), enable_nested_tensor=False
        )

    def forward(self, h: Tensor, real: Tensor, positions: Tensor) -> Tensor:
        """(B, S, hidden) -> (B, S, hidden)."""
        h = h + position_code(positions, h.shape[2])
        out: Tensor = self.layers(h, src_key_padding_mask=~real)
        return out


class SliceSequence(nn.Module):
    """(B, S, in_channels, H, W) -> logits of each slice and of the study."""

    def __init__(self, spec: SliceLstmSpec | SliceAttentionSpec, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = build_image_encoder(spec.encoder, spec.in_channels)
        self.narrow = nn.Linear(map_channels(spec.encoder)[-1], spec.hidden)
        self.sequence = (
            SliceLstm(spec, dropout=dropout)
            if isinstance(spec, SliceLstmSpec)
            else SliceAttention(spec, dropout=dropout)
        )
        self.dropout = nn.Dropout(dropout)
        self.slices = nn.Linear(spec.hidden, spec.classes)
        self.weight = nn.Linear(spec.hidden, 1)  # how much a slice says about the study
        self.study = nn.Linear(spec.hidden, spec.classes)

    @property
    def feature_layer(self) -> nn.Module:
        """The encoder's last layer: (real slices of the batch, c, H/stride, W/stride)."""
        return last_layer(self.encoder)

    def features(self, x: Tensor, counts: Tensor | None = None) -> Tensor:
        """(B, S, in_channels, H, W) -> (B, c): the mean over a study's real slices; no context yet."""
        real = real_slices(x, counts)
        vectors = self._vectors(x, real)
        return vectors.sum(1) / real.sum(1, keepdim=True)

    def forward(
        self, x: Tensor, counts: Tensor | None = None, positions: Tensor | None = None
    ) -> SeriesScores:
        """Logits of one batch.

        Parameters
        ----------
        counts : (B,) real slices of each study, at least 1; the rest is padding at the end; None: all
        positions : (B, S) of slices along the series; None: 0, 1, 2, ...
        """
        real = real_slices(x, counts)
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device).expand(real.shape)
        h = self.narrow(self._vectors(x, real))  # (B, S, c) -> (B, S, hidden)
        h = self.dropout(self.sequence(h, real, positions))
        slices = self.slices(h) * real[..., None]
        weight = self.weight(h)[..., 0].masked_fill(~real, -torch.inf).softmax(1)  # (B, S)
        study = self.study((weight[..., None] * h).sum(1))
        return SeriesScores(slices, study)

    def _vectors(self, x: Tensor, real: Tensor) -> Tensor:
        """(B, S, in_channels, H, W) -> (B, S, c); padding is not encoded and gives 0."""
        vectors = image_vectors(self.encoder, x[real])  # (real slices, c)
        out = vectors.new_zeros(*real.shape, vectors.shape[1])
        out[real] = vectors
        return out


def real_slices(x: Tensor, counts: Tensor | None) -> Tensor:
    """(B, S) True where a slice is no padding.

    Raises
    ------
    ValueError
        A study without slices, or with more than were given.
    """
    batch, most = x.shape[:2]
    if counts is None:
        return torch.ones(batch, most, dtype=torch.bool, device=x.device)
    if int(counts.min()) < 1 or int(counts.max()) > most:
        raise ValueError(f"counts must lie in 1 to {most}, the slices given; they are {counts.tolist()}")
    return torch.arange(most, device=x.device)[None] < counts.to(x.device)[:, None]


def position_code(positions: Tensor, channels: int) -> Tensor:
    """Sines and cosines of several wavelengths: (B, S) -> (B, S, channels), channels even."""
    half = channels // 2
    rates = torch.exp(torch.arange(half, device=positions.device) * (-log(WAVELENGTH_MAX) / half))
    angles = positions.float()[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
