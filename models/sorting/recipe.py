"""How a sorter is made, as data: one YAML file, checked; no torch here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from config.errors import PrereadError
from models.applicability import Keyword, Text
from models.manifest import Card
from models.networks.own_specs import EffNetLite0SlimSpec
from models.sorting.manifest import Answer, AskedWhen, Name, Question, SorterInput
from models.steps import Strict
from models.training.settings import AdamW, ImageClasses, Schedule, TrainSettings

FORMAT = "preread-sorter-recipe/1"
Share = Annotated[float, Field(ge=0, le=1)]
NOT_CHOSEN = "not chosen yet"


class SorterRecipeError(PrereadError):
    """A recipe of a sorter that cannot be used."""


class QuestionSection(Strict):
    """A question before its thresholds are chosen.

    wrong_max, sure_wrong_max : share of wrong answers among those given, on the training folds, that the
    threshold and `sure` are chosen for
    """

    name: Name
    words: Text
    answers: tuple[Answer, ...]
    other: bool
    silent_when: tuple[Keyword, ...] = ()
    asked_when: AskedWhen | None = None
    pixels_min: int = 1
    wrong_max: Share
    sure_wrong_max: Share

    def asked(self, threshold: float = 0.0, sure: float = 0.0, chosen_on: str = NOT_CHOSEN) -> Question:
        """The question with its thresholds."""
        return Question(
            name=self.name,
            words=self.words,
            answers=self.answers,
            other=self.other,
            silent_when=self.silent_when,
            threshold=threshold,
            sure=sure,
            chosen_on=chosen_on,
            asked_when=self.asked_when,
            pixels_min=self.pixels_min,
        )


class TrainingSection(Strict):
    """One run of the head: AdamW, cosine, a moving average; its length is fixed.

    rows_least, copies_max : see `models.sorting.learning.feature_table`
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=2, le=4096)
    rows_least: int = Field(ge=0)
    copies_max: int = Field(ge=1, le=16)
    rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    warm_up_steps: int = Field(ge=0)
    ema_decay: float = Field(ge=0, lt=1)
    dropout: float = Field(ge=0, lt=1)
    label_smoothing: Share

    def settings(self) -> TrainSettings:
        """As the loop takes them."""
        return TrainSettings(
            objective=ImageClasses(learns="image_classes", label_smoothing=self.label_smoothing),
            optimizer=AdamW(optimizer="adamw", rate=self.rate, weight_decay=self.weight_decay),
            schedule=Schedule(steps=self.steps, warm_up_steps=self.warm_up_steps),
            batch=self.batch,
            ema_decay=self.ema_decay,
        )


class GeneratedCounts(Strict):
    """How much is generated: patients of each kind of phantom, and odd pictures."""

    patients: int = Field(ge=5)
    odd: int = Field(ge=0)


class DataItem(Strict):
    """A data set; `kinds` of cases that come from it."""

    name: Text
    licence: Text
    unit: Literal["patients", "images"]
    kinds: tuple[Text, ...]
    citation: Annotated[str, Field(max_length=1000)]


class SorterRecipe(Strict):
    """The whole file."""

    format: Literal["preread-sorter-recipe/1"]
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    summary: Text
    seed: int
    input: SorterInput
    questions: tuple[QuestionSection, ...] = Field(min_length=1)
    network: EffNetLite0SlimSpec
    training: TrainingSection
    generated: GeneratedCounts
    shares: dict[str, Share]
    data: tuple[DataItem, ...]
    card: Card

    @model_validator(mode="after")
    def _outputs_agree(self) -> SorterRecipe:
        outputs = sum(question.asked().outputs for question in self.questions)
        if self.network.classes != outputs:
            raise ValueError(
                f"the questions need {outputs} outputs, network.classes is {self.network.classes}"
            )
        return self

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the weights; words for people are left out."""
        deciding = self.model_dump(mode="json", include={"seed", "input", "network", "training", "generated"})
        deciding["shares"] = self.shares
        deciding["questions"] = [
            [question.name, [answer.name for answer in question.answers], question.other]
            for question in self.questions
        ]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def shipped_recipe_path() -> Path:
    """The recipe of the shipped sorter."""
    return Path(__file__).parent / "series-sorter.yaml"


def read_sorter_recipe(file: Path) -> SorterRecipe:
    """Read and check a recipe.

    Raises
    ------
    SorterRecipeError
        Not readable, or not what the types ask for; names the first fields at fault.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return SorterRecipe.model_validate_json(json.dumps(content))
    except (OSError, yaml.YAMLError) as error:
        raise SorterRecipeError(f"cannot be read: {error}", where=str(file)) from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()[:3]
        ]
        raise SorterRecipeError(
            "; ".join(faults),
            where=str(file),
            remedy="Compare it with models/sorting/series-sorter.yaml.",
        ) from error
