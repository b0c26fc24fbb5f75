"""PURE names of figures of structures, which depend on their labels, and what each name says.

`dice_anterior_hippocampus_mean` is the form `dice_{}_mean` with the key of the label "Anterior hippocampus".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.evaluation.figures import Statistic

OF_ALL: Final = "dice_structures_mean"
OF_ALL_WORDS: Final = "Dice, mean over the structures of a case, then over cases"
# Keys of figures that are not of one structure; a label that makes one of these gets its number behind it.
RESERVED: Final = ("structures", "per_patient", "per_case", "per_lesion_image")


@dataclass(frozen=True)
class Form:
    """One kind of figure of a structure; {} stands for its key in `name`, for its label in `words`."""

    name: str
    words: str
    statistic: Statistic

    def metric(self, key: str) -> str:
        """The name of the figure of one structure."""
        return self.name.format(key)


DICE: Final = Form("dice_{}_mean", "Dice of {}, mean", "mean")
NSD: Final = Form("nsd_{}_mean", "share of the borders of {} that agree (NSD)", "mean")
HD95: Final = Form("hd95_{}_median", "95th percentile of border distance of {}", "median")
VOLUME_BIAS: Final = Form("volume_bias_{}", "volume of {}, found less true, mean", "mean")
RELATIVE_BIAS: Final = Form(
    "volume_relative_bias_{}", "volume of {}, found less true, as a share of the mean true volume", "mean"
)
VOLUME_ERROR: Final = Form("volume_error_{}", "volume of {}, how far off, mean", "mean")
VOLUME_ICC: Final = Form("volume_icc_{}", "volume of {}, agreement, ICC(2,1)", "coefficient")
MISSED: Final = Form("missed_{}", "{} there and not outlined", "share")
FALSE_ALARMS: Final = Form("false_alarms_{}", "{} outlined where it is not", "share")
FORMS: Final = (
    DICE,
    NSD,
    HD95,
    VOLUME_BIAS,
    RELATIVE_BIAS,
    VOLUME_ERROR,
    VOLUME_ICC,
    MISSED,
    FALSE_ALARMS,
)


def metric_name(label: str) -> str:
    """A label as part of a metric's name: small letters, digits and underscores."""
    plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in label.lower())
    return "_".join(part for part in plain.split("_") if part)


def metric_keys(labels: Sequence[str]) -> tuple[str, ...]:
    """A key for each label, no two alike: where two would be, or nothing is left, the number tells them."""
    plain = [metric_name(label) for label in labels]
    taken = {
        "",
        *RESERVED,
        *(str(number) for number in range(1, len(plain) + 1)),
    }  # a number stands for itself
    return tuple(
        f"{key or 'structure'}_{number}" if key in taken or plain.count(key) > 1 else key
        for number, key in enumerate(plain, start=1)
    )


def read_metric(metric: str) -> tuple[Form, str] | None:
    """Form and key of a figure's name; None where it is of no structure."""
    for form in FORMS:
        before, after = form.name.split("{}")
        match = re.fullmatch(f"{before}([a-z0-9_]+){after}", metric)
        if match is not None and match[1] not in RESERVED:
            return form, match[1]
    return None


def structure_words(metric: str) -> str | None:
    """What a figure's name says, the label as far as the name has it; None where it is of no structure."""
    if metric == OF_ALL:
        return OF_ALL_WORDS
    read = read_metric(metric)
    if read is None:
        return None
    form, key = read
    unit = " (mL)" if form is VOLUME_BIAS else ""  # declared in millilitres alone
    return form.words.format(key.replace("_", " ")) + unit
