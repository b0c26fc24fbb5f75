"""PURE: named structures of a source: numbered as a SEG numbers them, and measured together."""

from __future__ import annotations

import numpy as np

from models.predictor import Prediction
from pipeline.results.findings import Findings, Labels, Lesion
from pipeline.results.words import volume_words


def without_gaps(labels: Labels) -> tuple[Labels, tuple[int, ...]]:
    """Labels 1..n for the numbers that occur, and those numbers in order.

    A SEG numbers its segments without gaps, and a structure that was not found has no segment.
    """
    numbers = np.unique(labels)
    numbers = numbers[numbers > 0]
    place = np.zeros(int(labels.max()) + 1, np.uint16)
    place[numbers] = np.arange(1, len(numbers) + 1)
    return place[labels], tuple(int(number) for number in numbers)


def scores_of(prediction: Prediction, numbers: tuple[int, ...]) -> tuple[float, ...]:
    """Mean probability of each of these structures; empty where one has none."""
    told = prediction.structure_scores or ()
    scores = [told[number - 1] for number in numbers if number <= len(told)]
    known = tuple(score for score in scores if score is not None)
    return known if len(known) == len(numbers) else ()


def totals_of(findings: Findings, source: int) -> dict[str, float | None]:
    """Volume in mL of each declared total by its label; None where a structure of it was not found."""
    found: dict[int, Lesion] = {one.number: one.lesion for one in findings.lesions_of(source)}
    totals: dict[str, float | None] = {}
    for plan in findings.model.totals:
        volumes = [found[number].volume_ml if number in found else None for number in plan.numbers]
        known = [volume for volume in volumes if volume is not None]
        totals[plan.label] = sum(known) if len(known) == len(volumes) else None
    return totals


def sentences_of(findings: Findings, source: int) -> list[str]:
    """What a report says of the structures of a source beside their groups: missing ones, totals, scores."""
    sentences = [
        f"{plan.label}: looked for and not outlined; this says nothing about whether it is there."
        for plan in findings.not_found_in(source)
    ]
    for label, volume in totals_of(findings, source).items():
        told = "not given, a part was not outlined" if volume is None else f"{volume_words(volume)} mL"
        sentences.append(f"{label}: {told}.")
    scores = [
        f"{findings.model.plan_of(one.number).label} {one.lesion.score:.2f}"
        for one in findings.lesions_of(source)
        if one.lesion.score is not None
    ]
    if scores:
        sentences.append(f"Mean probability of the outlined voxels: {', '.join(scores)}.")
    return sentences
