"""What one kind of objective needs to be trained from a recipe: how cases are prepared, how it begins.

An entry for each kind stands in `models.training.learnings`; stages, cache and loop know nothing of kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.cases import Case
from models.training.objective import AnyObjective
from models.training.settings import TrainSettings

RecipeT = TypeVar("RecipeT")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class KeptCase:
    """A case as it is learnt from: prepared, and read from the cache."""

    name: str
    class_name: str | None
    is_simulated: bool
    arrays: Arrays


@dataclass(frozen=True, eq=False)
class Start:
    """Where a run starts.

    Parameters
    ----------
    weights : of an earlier run; None: fresh ones
    pretrained : fresh weights of a known encoder are those of ImageNet
    """

    device: torch.device
    weights: dict[str, Tensor] | None = None
    pretrained: bool = True


@dataclass(frozen=True)
class Learning(Generic[RecipeT]):
    """One kind of objective.

    Parameters
    ----------
    arrays : names of what `prepared` gives
    steps : JSON values that decide how a case is prepared; with the case they name what the cache holds
    prepared : arrays of one case; raises PreprocessError
    settings : of the loop
    begin : objective with its network, from training cases and those of the inner part
    simulated_share : of the samples that are drawn, from how many cases are real and how many generated
    """

    arrays: tuple[str, ...]
    steps: Callable[[RecipeT], object]
    prepared: Callable[[Case, RecipeT], Arrays]
    settings: Callable[[RecipeT], TrainSettings]
    begin: Callable[[RecipeT, Iterable[KeptCase], Iterable[KeptCase], Start], AnyObjective]
    simulated_share: Callable[[RecipeT, int, int], float]
