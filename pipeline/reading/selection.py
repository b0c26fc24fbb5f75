"""PURE: which model reads which series of a study, in which order of preference, and why not the others.

Judged on a few representative headers of each series, so that a study of thousands of images costs little;
the stack itself is judged by `assemble` afterwards. Reports, segmentations and own results are never read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from models.manifest import Manifest
from models.sorting.manifest import Question
from pipeline.reading.applicability import Verdict, angle_from, evidence_of, judge
from pipeline.reading.image_planes import numbers
from pipeline.reading.pixels_and_tags import NOTHING_FOUND, Remarks, completed, possible_stand_ins
from pipeline.reading.refusals import Refusal, refuse

REPRESENTATIVES: Final = 7


@dataclass(frozen=True, eq=False)
class SeriesHeaders:
    """A series as selection sees it.

    Parameters
    ----------
    headers : of representative images, without pixels; empty when the series holds no image
    slices : images or frames in the whole series
    other_classes : SOP class UIDs of its objects that are not images
    own : whether it holds results made by preread
    unreadable : why its headers could not be read, when they could not
    found : what was judged from its pixels, where somebody looked
    """

    series_uid: str
    headers: tuple[Dataset, ...]
    slices: int
    other_classes: tuple[str, ...] = ()
    own: bool = False
    unreadable: Refusal | None = None
    found: Remarks = NOTHING_FOUND


@dataclass(frozen=True)
class Considered:
    """One series in the eyes of one model: `rank` 1 is the best of those that fit, None does not fit.

    `weight` is the sum of the package's preferences, the first thing that series are ranked by.
    """

    series_uid: str
    rank: int | None
    refusal: Refusal | None
    sentence: str
    weight: float = 0.0


@dataclass(frozen=True)
class Selection:
    """What one model wants of a study, the best first; series that do not fit stand behind."""

    model: str
    considered: tuple[Considered, ...]

    @property
    def candidates(self) -> tuple[Considered, ...]:
        """Series that fit, the best first."""
        return tuple(item for item in self.considered if item.rank is not None)


def representatives(count: int) -> list[int]:
    """Indices of the images to look at in a series of `count`: evenly spread, ends included."""
    if count <= REPRESENTATIVES:
        return list(range(count))
    return sorted({round(i * (count - 1) / (REPRESENTATIVES - 1)) for i in range(REPRESENTATIVES)})


def select(manifests: Sequence[Manifest], series: Sequence[SeriesHeaders]) -> list[Selection]:
    """Hold every series against every package.

    Returns
    -------
    one selection per package, in the order given; each series stands in each of them with its reason
    """
    return [_selection(manifest, series) for manifest in manifests]


def worth_a_look(
    questions: Sequence[Question], manifests: Sequence[Manifest], series: Sequence[SeriesHeaders]
) -> list[str]:
    """Series that no model takes, and one might if pixels answered what their headers leave open.

    Parameters
    ----------
    questions : of the sorter
    """
    found = []
    for one in series:
        verdicts = [_series_verdict(manifest, one)[0] for manifest in manifests]
        if any(verdict.refusal is None for verdict in verdicts) or not one.headers:
            continue
        possible = possible_stand_ins(questions, one.headers[len(one.headers) // 2])
        if any(
            _series_verdict(manifest, replace(one, found=answers))[0].refusal is None
            for answers in possible
            for manifest in manifests
        ):
            found.append(one.series_uid)
    return found


def _selection(manifest: Manifest, series: Sequence[SeriesHeaders]) -> Selection:
    fitting: list[tuple[tuple[float, ...], SeriesHeaders, str, float]] = []
    refused: list[Considered] = []
    for one in series:
        verdict, header = _series_verdict(manifest, one)
        if verdict.refusal is not None or header is None:
            refusal = verdict.refusal
            said = refusal.sentence if refusal else "no image"
            sentence = " ".join([f"not taken: {said}", *one.found.doubts])
            refused.append(Considered(one.series_uid, None, refusal, sentence, verdict.weight))
            continue
        # Most preferred, then most slices, then thinnest; the UID only so that the order is always one.
        thickness = numbers(header, "SliceThickness", 1) or (0.0,)
        order = (-verdict.weight, -float(one.slices), thickness[0])
        fitting.append((order, one, _taken(verdict, one, header), verdict.weight))
    fitting.sort(key=lambda item: (item[0], item[1].series_uid))
    candidates = [
        Considered(one.series_uid, rank, None, sentence, weight)
        for rank, (_, one, sentence, weight) in enumerate(fitting, start=1)
    ]
    return Selection(manifest.id, (*candidates, *refused))


def _series_verdict(manifest: Manifest, one: SeriesHeaders) -> tuple[Verdict, Dataset | None]:
    """The verdict of most of the representative images, and one of them."""
    if one.own:
        return Verdict(refuse("OWN-RESULT", what="The series")), None
    if one.unreadable is not None:
        return Verdict(one.unreadable), None
    if not one.headers:
        return Verdict(refuse("NOT-AN-IMAGE", what="The series", kinds=_kinds(one.other_classes))), None
    verdict, header = _verdict_of(manifest, one, one.headers)
    if verdict.refusal is None or not one.found.stand_ins:
        return verdict, header
    filled, whole = _verdict_of(manifest, one, [completed(each, one.found) for each in one.headers])
    if filled.refusal is not None or whole is None:
        return verdict, header
    # What stood in is told as what it is, not as an attribute.
    quoted = {evidence_of(attribute, whole) for attribute, _ in one.found.stand_ins}
    evidence = tuple(words for words in filled.evidence if words not in quoted)
    return replace(filled, evidence=(*evidence, *one.found.judged)), header


def _verdict_of(
    manifest: Manifest, one: SeriesHeaders, headers: Sequence[Dataset]
) -> tuple[Verdict, Dataset | None]:
    """As `_series_verdict`, of these headers."""
    reading = manifest.inputs[0]
    verdicts = [judge(reading.applicability, header) for header in headers]
    fits = [i for i, verdict in enumerate(verdicts) if verdict.refusal is None]
    # A series of slices is one thing: a localizer among them must not decide. Still images stand alone.
    if not fits or (reading.unit == "series" and len(fits) * 2 < len(verdicts)):
        return next((v, headers[i]) for i, v in enumerate(verdicts) if v.refusal is not None)
    best = fits[len(fits) // 2]
    outside = _outside(manifest, one, headers[best])
    verdict = verdicts[best] if outside is None else replace(verdicts[best], refusal=outside)
    return verdict, headers[best]


def _outside(manifest: Manifest, one: SeriesHeaders, header: Dataset) -> Refusal | None:
    """Bounds of slices and angle that can be judged before the stack is assembled."""
    rules, unit = manifest.inputs[0].applicability, manifest.inputs[0].unit
    if unit == "series" and one.slices < rules.min_slices:
        return refuse("TOO-FEW-SLICES", what="The series", slices=one.slices, least=rules.min_slices)
    most = rules.max_angle_from_axial_degrees
    angle = None if most is None else angle_from("axial", header)
    if most is not None and angle is not None and angle > most:
        return refuse("ORIENTATION", degrees=angle, axis="axial", most=most)
    return None


def _taken(verdict: Verdict, one: SeriesHeaders, header: Dataset) -> str:
    parts = [*verdict.evidence, f"{one.slices} {'image' if one.slices == 1 else 'images'}"]
    angle = angle_from("axial", header)
    if angle is not None:
        parts.append(f"{angle:.0f}° from axial")
    return " ".join(["taken: " + ", ".join(parts) + ".", *one.found.doubts])


def _kinds(classes: Sequence[str]) -> str:
    """SOP classes for people, each with its number, such as `2 Segmentation`."""
    counted = Counter(UID(uid).name.removesuffix(" Storage") for uid in classes)
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "nothing"
