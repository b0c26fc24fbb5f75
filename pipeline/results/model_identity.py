"""What results say about the model that made them: the one place that reads a package for `results`."""

from __future__ import annotations

from typing import Final, Literal

from models.manifest import Code as PackageCode
from models.manifest import SegmentFinding
from models.package import Package
from pipeline.results.codes import Code
from pipeline.results.findings import ClassPlan, ModelIdentity, SegmentPlan, TotalPlan

_SIDES: Final[dict[str, Literal["L", "R", "B"]]] = {"left": "L", "right": "R", "both": "B"}

# Who speaks in the report of a study that no model wanted.
NO_MODEL: Final = ModelIdentity(
    id="no-model",
    title="No model",
    version="0",
    digest="",
    parameters={},
    card_line="",
    negative_statement="",
    segment=SegmentPlan(
        label="",
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        kind=Code("52988006", "SCT", "Lesion"),
        region=None,
        colour=(70.0, 40.0, 60.0),
    ),
)


def model_identity(package: Package) -> ModelIdentity:
    """What results say about a package."""
    manifest = package.manifest
    plans = tuple(_plan(segment) for segment in manifest.findings.segments)
    has_structures = manifest.findings.kind == "structures"
    point = next(one for one in manifest.operating_points if one.default)
    parameters = {name: f"{value:g}" for name, value in sorted(point.thresholds.items())}
    return ModelIdentity(
        id=manifest.id,
        title=manifest.title,
        version=manifest.version,
        digest=package.digest,
        parameters={
            "operating point": point.name,
            **parameters,
            "weights sha256": manifest.file("weights").sha256,
            "package sha256": package.digest,
        },
        card_line=manifest.card.line,
        negative_statement=manifest.findings.negative_statement or "",
        segment=plans[0],
        classes=tuple(
            ClassPlan(one.name, _code(one.concept), one.negative, one.urgent)
            for one in manifest.findings.classes
        ),
        urgent_ml=manifest.findings.urgent_ml,
        structures=plans if has_structures else (),
        totals=tuple(TotalPlan(one.label, one.segments) for one in manifest.findings.totals),
        outlines_extents=manifest.task.kind == "detect",
    )


def _plan(segment: SegmentFinding) -> SegmentPlan:
    return SegmentPlan(
        label=segment.label,
        category=_code(segment.category),
        kind=_code(segment.type),
        region=_code(segment.region) if segment.region else None,
        colour=segment.colour,
        number=segment.number,
        modifier=_code(segment.modifier) if segment.modifier else None,
        side=_SIDES.get(segment.laterality),
    )


def _code(code: PackageCode) -> Code:
    return Code(code.value, code.scheme, code.meaning)
