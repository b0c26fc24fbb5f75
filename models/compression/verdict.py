"""PURE whether a compressed package may be shipped: what it gains, and what it loses on the same cases."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from statistics import median

from models.evaluation.case_result import CaseResult
from models.evaluation.compare import PairedRow

SPEED_MIN = 1.5
SIZE_MAX = 0.5
LOSS_MAX = 0.005  # of Dice and area under the curve: half a point
GUARDED = ("dice", "class_auc")


@dataclass(frozen=True)
class Gain:
    """Weights in bytes, and the seconds of rounds in which both read the same cases one after the other."""

    bytes_before: int
    bytes_after: int
    seconds_before: tuple[float, ...]
    seconds_after: tuple[float, ...]

    @property
    def size(self) -> float:
        """Part of the bytes that is left."""
        return self.bytes_after / self.bytes_before

    @property
    def speed(self) -> float:
        """How many times as fast: median over the rounds."""
        return median(self.speeds)

    @property
    def speeds(self) -> tuple[float, ...]:
        """Of each round."""
        return tuple(
            before / after for before, after in zip(self.seconds_before, self.seconds_after, strict=True)
        )


def objections(
    gain: Gain, rows: Sequence[PairedRow], drawn: Sequence[str], mistakes: Set[tuple[str, str]]
) -> tuple[str, ...]:
    """Why the compressed package may not be shipped; empty: it may.

    Parameters
    ----------
    rows : after minus before, on the same cases
    drawn : see `newly_drawn`
    mistakes : see `new_mistakes`
    """
    found = []
    if gain.speed < SPEED_MIN and gain.size > SIZE_MAX:
        found.append(
            f"{gain.speed:.2f} times as fast and {gain.size:.2f} of the size: neither {SPEED_MIN:g} times as "
            f"fast nor at most {SIZE_MAX:g} of the size"
        )
    by_metric = {row.metric: row for row in rows}
    if "dice" not in by_metric:
        found.append("no case with anything to outline: nothing shows that outlines stay as they were")
    for metric in GUARDED:
        row = by_metric.get(metric)
        if row is not None and not row.is_not_worse(LOSS_MAX):
            low, high = row.difference.ci95
            found.append(
                f"{metric} may be more than {LOSS_MAX:g} worse (95 % interval {low:+.4f} to {high:+.4f})"
            )
    if drawn:
        found.append(f"draws on {len(drawn)} cases with nothing to outline that were left alone before")
    if mistakes:
        found.append(
            "mistakes one class for another as it never did before: "
            + ", ".join(f"{true} for {said}" for true, said in sorted(mistakes))
        )
    return tuple(found)


def newly_drawn(before: Sequence[CaseResult], after: Sequence[CaseResult]) -> tuple[str, ...]:
    """Names of the cases without anything to outline that are drawn on after, but were not before."""
    return tuple(
        second.name
        for first, second in zip(before, after, strict=True)
        if first.truth_voxels == 0 and second.is_drawn and not first.is_drawn
    )


def new_mistakes(before: Sequence[CaseResult], after: Sequence[CaseResult]) -> set[tuple[str, str]]:
    """(true class, class said) of each kind of mistake that occurs after, but did not before."""
    return _mistakes(after) - _mistakes(before)


def _mistakes(results: Sequence[CaseResult]) -> set[tuple[str, str]]:
    return {
        (result.true_class, result.found_class)
        for result in results
        if result.true_class is not None
        and result.found_class is not None
        and result.true_class != result.found_class
    }
