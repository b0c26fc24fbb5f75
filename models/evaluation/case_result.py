"""PURE how one case came out, as a package's declared figures need it, and how that is kept as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from numpy.typing import NDArray

from models.evaluation.detection_figures import JudgedBoxes
from models.evaluation.overlap import dice
from models.evaluation.scales import Scale
from models.evaluation.structures import StructureCase, mean_dice, structure_cases
from models.training.cases import Case


@dataclass(frozen=True)
class CaseResult:
    """One case: how the outline and the class came out.

    dice : of the lesion, or the mean over the structures that the truth has; None: nothing to outline
    structures : each by its number, of a package of structures
    boxes : of a detector
    """

    name: str
    group: str
    dice: float | None
    is_drawn: bool
    false_voxels: int
    truth_voxels: int
    slices_with_truth: int
    slices_drawn: int
    true_class: str | None
    found_class: str | None
    class_scores: dict[str, float] | None
    structures: tuple[StructureCase, ...] = ()
    boxes: JudgedBoxes | None = None


def result_from(content: Mapping[str, Any]) -> CaseResult:
    """A result from what `plain_result` made of it, read back as JSON."""
    structures = tuple(StructureCase(**one) for one in content.get("structures", ()))
    boxes = content.get("boxes")
    judged = None if boxes is None else JudgedBoxes(**boxes)
    return CaseResult(**{**content, "structures": structures, "boxes": judged})


def plain_result(result: CaseResult) -> dict[str, Any]:
    """A result as JSON values; without structures and boxes where there are none, as it was."""
    content = asdict(result)
    return {key: value for key, value in content.items() if value or key not in ("structures", "boxes")}


def result_of(
    case: Case, labels: NDArray[Any], class_name: str | None, class_scores: dict[str, float] | None
) -> CaseResult:
    """Compare what a model said with the truth; `labels` as in Prediction."""
    found = labels > 0
    return CaseResult(
        name=case.name,
        group=case.group,
        dice=dice(found, case.mask),
        is_drawn=bool(found.any()),
        false_voxels=int((found & ~case.mask).sum()),
        truth_voxels=int(case.mask.sum()),
        slices_with_truth=int(case.mask.any((1, 2)).sum()),
        slices_drawn=int(found.any((1, 2)).sum()),
        true_class=case.class_name,
        found_class=class_name,
        class_scores=class_scores,
    )


def structures_result(case: Case, numbers: NDArray[Any], labels: Sequence[str], scale: Scale) -> CaseResult:
    """Compare each structure with the truth.

    Parameters
    ----------
    numbers : (slices, rows, columns) of the structures that were found, 0 background
    labels : of the structures by number, from 1
    scale : with the spacing of the case
    """
    compared = structure_cases(
        numbers, case.labels, labels, voxel_size=scale.voxel_size, unit=scale.size_unit
    )
    return replace(
        result_of(case, numbers, None, None),
        dice=mean_dice(compared),
        false_voxels=int(((numbers > 0) & (numbers != case.labels)).sum()),
        structures=compared,
    )
