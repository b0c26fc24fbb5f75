"""The names in a checkpoint of nnU-Net v2, each tensor once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.adapters.refusal import NOT_TRUSTED, ImportRefusal


def first_name(name: str) -> str:
    """The name under which models.networks.nnunet holds the tensor that a checkpoint calls so.

    The decoder repeats the encoder; a block repeats its convolution and normalisation in a sequence of number
    0 and 1.
    """
    plain = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    head, found, tail = plain.partition(".all_modules.")
    if not found:
        return plain
    number, _, leaf = tail.partition(".")
    kind = {"0": "conv", "1": "norm"}.get(number)
    return plain if kind is None else f"{head}.{kind}.{leaf}"


def without_aliases(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors under their first names.

    Raises
    ------
    ImportRefusal
        Two names of one tensor carry different numbers: which of them computes would depend on the reader.
    """
    kept: dict[str, Tensor] = {}
    for name in sorted(state, key=lambda one: (first_name(one) != one, one)):
        value, first = state[name], first_name(name)
        if first not in kept:
            kept[first] = value
        elif kept[first].shape != value.shape or not torch.equal(kept[first], value):
            raise ImportRefusal(
                f"{name} and {first} are one tensor to nnU-Net, but differ here",
                where=where,
                remedy=NOT_TRUSTED,
            )
    return kept
