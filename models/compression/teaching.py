"""One more term for any objective: agree with teachers, networks that have learnt the same before.

Teachers see each batch as the student sees it, augmented alike, and say probabilities; the term is how far
the student's are from their mean (Kullback-Leibler divergence, meaned over pixels or voxels, and over images
for classes). It is 0 where both say the same, whatever the truth is.

Source: Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, arXiv 1503.02531.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.networks.unet import Maps
from models.training.objective import TOTAL, AnyObjective, Judgement, ParameterGroup

TEACHER = "teacher"


class Heard(NamedTuple):
    """What the student said of a batch, in its objective's own words, and what the teachers said of it."""

    student: Any
    teachers: tuple[Tensor, ...]  # mean log-probabilities of each answer, see `log_probabilities`


@dataclass(eq=False)
class TaughtObjective:
    """An objective whose network also learns from teachers.

    taught : the student's own objective; what it learns from cases stays
    teachers : in evaluation mode on its device; each gives what the student's network gives
    weight : of the teachers' term
    """

    taught: AnyObjective
    teachers: Sequence[nn.Module]
    weight: float

    @property
    def network(self) -> nn.Module:
        """The student."""
        return self.taught.network

    @property
    def module(self) -> nn.Module:
        """The student's, as its objective calls it."""
        return self.taught.module

    def groups(self) -> list[ParameterGroup]:
        """Of the student alone: teachers do not learn."""
        return self.taught.groups()

    def draw(self, generator: Generator) -> Any:
        """A batch of the student's objective."""
        return self.taught.draw(generator)

    def forward(self, module: nn.Module, batch: Any) -> Heard:
        """The student's outputs, and the teachers' beside them."""
        with torch.no_grad():
            said = [log_probabilities(teacher(batch.image)) for teacher in self.teachers]
        return Heard(
            self.taught.forward(module, batch),
            tuple(_mean_of_chances(answers) for answers in zip(*said, strict=True)),
        )

    def terms(self, outputs: Heard, batch: Any) -> dict[str, Tensor]:
        """The objective's own terms, that of the teachers, and the total of both."""
        terms = dict(self.taught.terms(outputs.student, batch))
        own = log_probabilities(outputs.student)
        apart = [divergence(student, teacher) for student, teacher in zip(own, outputs.teachers, strict=True)]
        terms[TEACHER] = torch.stack(apart).sum()
        terms[TOTAL] = terms[TOTAL] + self.weight * terms[TEACHER]
        return terms

    def judge(self, network: nn.Module) -> Judgement | None:
        """As the objective judges."""
        return self.taught.judge(network)


def log_probabilities(output: Any) -> tuple[Tensor, ...]:
    """Logarithms of what a network says, each (B, k, ...) over k choices that exclude each other.

    A lesion map (B, 1, ...) becomes two: there is a lesion, there is none. Side outputs say nothing here.
    """
    if isinstance(output, Maps):
        lesion = output.lesion.float()
        answers = [torch.cat([F.logsigmoid(lesion), F.logsigmoid(-lesion)], 1)]
        if output.classes is not None:
            answers.append(F.log_softmax(output.classes.float(), 1))
        return tuple(answers)
    finest = output if isinstance(output, Tensor) else output[0]
    return (F.log_softmax(finest.float(), 1),)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over batch and places of the divergence of (B, k, ...) log-probabilities from the teacher's."""
    return (teacher.exp() * (teacher - student)).sum(1).mean()


def _mean_of_chances(logs: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(logs)).logsumexp(0) - torch.tensor(float(len(logs))).log()
