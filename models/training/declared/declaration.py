"""What a person decides about a package, apart from what training measures: use, codes, thresholds,
warnings.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.manifest import (
    Card,
    Findings,
    Inference,
    Memory,
    ModelInput,
    OperatingPoint,
    Task,
    TrainingData,
)
from models.steps import PostprocessStep


@dataclass(frozen=True)
class Declaration:
    """The hand-written half of model.json. `data_sets` get their counts from the split."""

    title: str
    summary: str
    task: Task
    model_input: ModelInput
    inference: Inference
    postprocess: tuple[PostprocessStep, ...]
    findings: Findings
    operating_points: tuple[OperatingPoint, ...]
    memory: Memory
    real_data: TrainingData  # n is filled in
    card: Card
