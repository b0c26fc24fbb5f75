"""What is to be made from a recipe, and how far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.training.card_pictures import PicturedCase
from models.training.cases import Case
from models.training.readers import Reader
from models.training.recipe_file import RecipeFile

StageName = Literal["prepare", "split", "cache", "train", "out-of-fold", "evaluate", "package"]
STAGES: tuple[StageName, ...] = (
    "prepare",
    "split",
    "cache",
    "train",
    "out-of-fold",
    "evaluate",
    "package",
)
# Raised when a stage's output changes its meaning, so that older ones are made again.
VERSIONS = {"prepare": 1, "split": 1, "train": 1, "evaluate": 1, "package": 1}

Generate = Callable[[str, int, int], Iterable[Case]]  # like, count, seed


@dataclass(frozen=True)
class Order:
    """What is to be made, and how far.

    Parameters
    ----------
    recipe_folder : from which the recipe's own paths go on
    data_folder : of the cases; of the two known data sets also the folder that holds it
    readers : by the name that a recipe's data section gives
    generate : cases of the study generator
    pictured : cases for the card that no run has seen
    minutes : length of each run besides the recipe's steps
    deadline_seconds : stop cleanly after this long, to go on with the next call
    until : the last stage that is done
    fold : only train the network that does not see this fold
    out_of_fold : also train and judge the networks of the other folds
    notes : sentences for the card
    """

    recipe: RecipeFile
    recipe_folder: Path
    data_folder: Path
    readers: Mapping[str, Reader]
    generate: Generate
    pictured: Callable[[], Sequence[PicturedCase]] = lambda: ()
    minutes: float | None = None
    deadline_seconds: float | None = None
    until: StageName = "package"
    fold: int | None = None
    out_of_fold: bool = False
    notes: tuple[str, ...] = ()

    def wants(self, stage: StageName) -> bool:
        """Whether the stage is to be done."""
        return STAGES.index(stage) <= STAGES.index(self.until)
