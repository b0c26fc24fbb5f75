"""PURE: what a model may begin with while its study still receives."""

from __future__ import annotations

from models.manifest import ModelInput
from pipeline.reading.selection import Selection


def early_candidates(reading: ModelInput, selection: Selection, whole: frozenset[str]) -> list[str]:
    """Series that a model may begin with, the best first: the first whose stack is good is what it wants.

    Only series that are whole; and only those preferred to every series that fits, or would with more
    slices, and is not whole: that one may yet be ranked before it. A series of which no image came is not
    waited for. A model of still images reads every series that fits, so the whole study is what it needs.

    Parameters
    ----------
    selection : of all series, as far as they came
    whole : Series Instance UIDs of those that are provably whole
    """
    if reading.unit != "series":
        return []
    rivals = [
        one.weight
        for one in selection.considered
        if one.series_uid not in whole
        and (one.rank is not None or (one.refusal is not None and one.refusal.code == "TOO-FEW-SLICES"))
    ]
    return [
        one.series_uid
        for one in selection.candidates
        if one.series_uid in whole and all(one.weight > weight for weight in rivals)
    ]
