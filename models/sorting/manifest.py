"""The text of a sorter's package, `model.json` with the task `sort`, as frozen types.

A sorter answers a few questions about a series, each from a closed list, and says "unknown" below a
threshold. It finds nothing and outlines nothing, so it shares the files, figures, training and card of
`models.manifest`, and none of the findings. `models/sorting/sorter.schema.json` is generated from here.

The network gives one logit for each answer of each question, in this order; a question with `other` has one
more behind its answers: none of these.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.applicability import Keyword, Test, Text
from models.manifest import Card, Evaluation, PackageFile, Runtime, Training
from models.networks.own_specs import EffNetLite0SlimSpec
from models.steps import Strict

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,31}$")]
Score = Annotated[float, Field(ge=0, le=1)]
SIDE_MULTIPLE = 32


class StandIn(Strict):
    """A value that an attribute is taken to have when it is absent and the answer is very sure."""

    attribute: Keyword
    value: Text


class Answer(Strict):
    """One answer to a question.

    stands_for : what rules of other packages are held against where the study says nothing
    said_by : any of these in a header says the same in words
    denied_by : any of these says that it is something else, even if nothing else that may be answered
    """

    name: Name
    words: Text
    stands_for: tuple[StandIn, ...] = ()
    said_by: tuple[Test, ...] = ()
    denied_by: tuple[Test, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Answer:
        tests = (*self.said_by, *self.denied_by)
        if any(test.value is False or test.unknown == "accept" for test in tests):
            raise ValueError(f"{self.name}: said_by and denied_by need tests that an absent attribute fails")
        return self


class AskedWhen(Strict):
    """A question that only makes sense after certain answers to an earlier one."""

    question: Name
    answers: tuple[Name, ...] = Field(min_length=1)


class Question(Strict):
    """What is asked, what may be answered, and from which score on.

    silent_when : attributes that must all be absent or empty before an answer stands in for them
    threshold : below it the answer is unknown; very sure is from `sure`. Both chosen on training folds.
    pixels_min : longer side of an image that can be judged at all
    """

    name: Name
    words: Text
    answers: tuple[Answer, ...] = Field(min_length=2, max_length=16)
    other: bool
    silent_when: tuple[Keyword, ...] = ()
    threshold: Score
    sure: Score
    chosen_on: Text
    asked_when: AskedWhen | None = None
    pixels_min: int = Field(default=1, ge=1, le=4096)

    @model_validator(mode="after")
    def _agrees(self) -> Question:
        names = [answer.name for answer in self.answers]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: two answers have one name")
        if {"unknown", "other"} & set(names):
            raise ValueError(f"{self.name}: unknown and other are no answers of a list")
        if self.sure < self.threshold:
            raise ValueError(f"{self.name}: sure must not lie below threshold")
        return self

    @property
    def outputs(self) -> int:
        """Logits of the network that are this question's."""
        return len(self.answers) + self.other


class SorterInput(Strict):
    """Which slices of a series are looked at, and how each is brought to the network.

    positions : of slices, 0 the first and 1 the last
    side : pixels; the longer side of an image is brought to it and the shorter one padded
    low, high : percentiles of the image that become 0 and 1: no unit, window or gain is seen
    """

    positions: tuple[Score, ...] = Field(min_length=1, max_length=9)
    side: Annotated[int, Field(ge=SIDE_MULTIPLE, le=512, multiple_of=SIDE_MULTIPLE)]
    low: Annotated[float, Field(ge=0, lt=50)]
    high: Annotated[float, Field(gt=50, le=100)]


class SortTask(Strict):
    """What tells a sorter's package from one that reads studies."""

    kind: Literal["sort"]


class SorterGolden(Strict):
    """Generated slices and what the sorter must answer before it may run; unknown is an answer."""

    tolerance: float = Field(gt=0, le=0.2)  # of every probability
    answers: tuple[tuple[Name, Name], ...]  # of each case, question by question: (question, answer)


class SorterManifest(Strict):
    """model.json of a sorter."""

    format: Literal["preread-model/1"]
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    summary: Text
    released: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    files: tuple[PackageFile, ...]
    task: SortTask
    network: EffNetLite0SlimSpec
    input: SorterInput
    questions: tuple[Question, ...] = Field(min_length=1, max_length=8)
    evaluation: tuple[Evaluation, ...]
    training: Training
    runtime: Runtime
    golden: SorterGolden
    card: Card

    @model_validator(mode="after")
    def _parts_agree(self) -> SorterManifest:
        outputs = sum(question.outputs for question in self.questions)
        if self.network.classes != outputs:
            raise ValueError(f"the questions need {outputs} outputs, the network has {self.network.classes}")
        if self.network.in_channels != 1:
            raise ValueError("a sorter's network reads one channel")
        known: dict[str, set[str]] = {}
        for question in self.questions:
            if question.name in known:
                raise ValueError(f"two questions are called {question.name}")
            when = question.asked_when
            if when is not None and not set(when.answers) <= known.get(when.question, set()):
                raise ValueError(f"{question.name}: asked_when must name answers of an earlier question")
            known[question.name] = {answer.name for answer in question.answers}
        for name, answer in self.golden.answers:
            if answer != "unknown" and answer not in known.get(name, set()):
                raise ValueError(f"golden: {name} has no answer {answer}")
        return self

    @model_validator(mode="after")
    def _files_agree(self) -> SorterManifest:
        paths = [item.path for item in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("files lists a path twice")
        for role in ("weights", "golden_in", "golden_out", "card", "split"):
            if sum(item.role == role for item in self.files) != 1:
                raise ValueError(f"files must list exactly one file with the role {role}")
        return self

    def question(self, name: str) -> Question:
        """The question of a name."""
        return next(question for question in self.questions if question.name == name)
