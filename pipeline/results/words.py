"""PURE: findings in words: the line a radiologist reads in two seconds, numbers as people write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.results.findings import Findings, Lesion

STRUCTURES_TOLD: Final = 4  # in one line; the report and the page have all of them
UNUSUAL_WORDS: Final = "unusual input"


def headline(findings: Findings) -> str:
    """One line: "2 lesions · 14.2 mL · long axis 31 mm", "malignant 0.91 · 18 × 11 mm", "no lesion found";
    of structures "Hippocampus anterior 1.32 mL, posterior 1.51 mL".

    An input unlike the training cases is called so at the end.
    """
    found = _structures(findings) if findings.model.outlines_structures else _what_was_found(findings)
    return f"{found} · {UNUSUAL_WORDS}" if findings.is_unusual else found


def _what_was_found(findings: Findings) -> str:
    parts = []
    if findings.class_name is not None:
        parts.append(f"{findings.class_name} {findings.class_scores[findings.class_name]:.2f}")
    lesions = [tracked.lesion for tracked in findings.lesions]
    if not lesions:
        plan = findings.model.class_plan(findings.class_name)
        found_by_class = plan is not None and not plan.negative
        return " · ".join([*parts, "no lesion outlined" if found_by_class else "no lesion found"])
    largest = max(lesions, key=_extent)
    if findings.class_name is None or len(lesions) > 1:
        parts.append(f"{len(lesions)} lesions" if len(lesions) > 1 else "1 lesion")
    volume = total_volume_ml(findings)
    if volume is not None:
        parts += [f"{volume_words(volume)} mL", f"long axis {long_axis_words(largest)}"]
    else:
        parts.append(axes_words(largest))
    return " · ".join(parts)


def _structures(findings: Findings) -> str:
    """The structures of the source that decides, in the package's order; words they all begin with once."""
    found = {one.number: one.lesion for one in findings.lesions_of(findings.deciding_source)}
    if not found:
        return "no structure outlined"
    plans = findings.model.structures
    others = short_names([plan.label for plan in plans])[1:]
    told = [
        f"{name} {size_words(found[plan.number]) if plan.number in found else 'not outlined'}"
        for name, plan in zip((plans[0].label, *others), plans, strict=True)
    ]
    more = len(told) - STRUCTURES_TOLD
    return ", ".join([*told[:STRUCTURES_TOLD], *([f"and {more} more"] if more > 0 else [])])


def short_names(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all of them begin with; whole where one would be left without any."""
    words = [label.split() for label in labels]
    shared = 0
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    if len(labels) < 2 or any(len(one) <= shared for one in words):
        return list(labels)
    return [" ".join(one[shared:]) for one in words]


def is_urgent(findings: Findings) -> bool:
    """Whether a person should look soon: a class the package calls urgent, or more volume than it allows."""
    plan = findings.model.class_plan(findings.class_name)
    volume = total_volume_ml(findings)
    # A package of structures has no limit: their size is a measurement.
    limit = findings.model.urgent_ml
    return bool(plan and plan.urgent) or (limit is not None and volume is not None and volume >= limit)


def total_volume_ml(findings: Findings) -> float | None:
    """Volume of all lesions; None without lesions or without calibration."""
    volumes = [tracked.lesion.volume_ml for tracked in findings.lesions]
    known = [volume for volume in volumes if volume is not None]
    return sum(known) if known and len(known) == len(volumes) else None


def volume_words(volume_ml: float) -> str:
    """Three figures are enough: 14.2, 1.31, 0.042."""
    if volume_ml >= 10:
        return f"{volume_ml:.1f}"
    return f"{volume_ml:.2f}" if volume_ml >= 0.1 else f"{volume_ml:.3f}"


def length_words(length: float) -> str:
    """Whole units from ten, tenths below."""
    return f"{length:.0f}" if length >= 9.95 else f"{length:.1f}"


def axes_words(lesion: Lesion) -> str:
    """Both diameters with their unit: "18 × 11 mm"; "px" when uncalibrated."""
    if lesion.long_axis_mm is not None and lesion.short_axis_mm is not None:
        return f"{length_words(lesion.long_axis_mm)} × {length_words(lesion.short_axis_mm)} mm"
    return f"{lesion.long_axis_px or 0:.0f} × {lesion.short_axis_px or 0:.0f} px"


def long_axis_words(lesion: Lesion) -> str:
    """The long axis with its unit."""
    if lesion.long_axis_mm is not None:
        return f"{length_words(lesion.long_axis_mm)} mm"
    return f"{lesion.long_axis_px or 0:.0f} px"


def size_words(lesion: Lesion) -> str:
    """Volume where there is one, else area, with its unit."""
    if lesion.volume_ml is not None:
        return f"{volume_words(lesion.volume_ml)} mL"
    if lesion.area_mm2 is not None:
        return f"{lesion.area_mm2:.0f} mm²"
    return f"{lesion.area_px} px"


def _extent(lesion: Lesion) -> float:
    return lesion.long_axis_mm if lesion.long_axis_mm is not None else lesion.long_axis_px or 0.0
