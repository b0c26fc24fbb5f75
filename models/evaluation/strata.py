"""PURE which part of a data set a case belongs to, by everything the set says about it."""

from __future__ import annotations

from collections.abc import Mapping

from models.evaluation.measures import CaseMeasures
from models.training.cases import Case, DataKind

# What section 4 of the evaluation asks for and the data sets do not hold.
UNKNOWN_STRATA: dict[DataKind, str] = {
    "brain-flair": "Sex, age, scanner and field strength are not in the data: nothing is known about them.",
    "breast-us": "Age, ultrasound system and marks in the image (calipers, text) are not in the data: "
    "nothing is known about them.",
    "own": "Age, sex, scanner and site are not among what a recipe reads: nothing is known about them.",
}


def strata_of(
    kind: DataKind, case: Case, measures: CaseMeasures, group_sizes: Mapping[str, int], axilla: frozenset[str]
) -> dict[str, str]:
    """Name of the division -> part of it.

    Parameters
    ----------
    group_sizes : cases of each group in the whole data set
    axilla : images known to show the axilla
    """
    if kind == "brain-flair":
        return {
            "site": case.name.split("_")[1],  # the tissue source site of a TCGA patient identifier
            "lesion volume": band(measures.truth_size, (10.0, 40.0), "mL"),
            "slices": "20 to 24 slices" if len(case.mask) <= 24 else "25 slices and more",
        }
    if kind == "own":
        return {
            **({"class": case.class_name} if case.class_name else {}),
            # Structures are divided by the size of each, see structure_strata.
            **({} if measures.borders else {"class and size": case.stratum}),
            "group": "alone in its group" if group_sizes[case.group] == 1 else "with others of its group",
        }
    share = 100 * float(case.mask.mean())
    return {
        "class": case.class_name or "unknown",
        "lesion size": band(share, (2.0, 8.0), "% of the image") if share else "no lesion",
        "copies": "no near-duplicate" if group_sizes[case.group] == 1 else "with near-duplicates",
        "place": "axilla" if case.name in axilla else "not known to be axilla",
    }


def band(value: float, edges: tuple[float, float], unit: str) -> str:
    """One of three parts."""
    low, high = edges
    if value < low:
        return f"below {low:g} {unit}"
    return f"{low:g} to {high:g} {unit}" if value < high else f"{high:g} {unit} and more"
