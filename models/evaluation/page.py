"""report.html: one file without network or script, for a radiologist first and a data scientist after."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from models.evaluation.charts import coverage_chart, forest_chart, froc_chart, reliability_chart, roc_chart
from models.evaluation.document import Evaluation
from models.evaluation.pictures import FOUND_COLOUR, TRUTH_COLOUR
from models.evaluation.published_figures import PUBLISHED, PUBLISHED_OF
from models.evaluation.robustness_charts import attack_charts, natural_charts
from models.evaluation.sheets import CasePicture
from models.evaluation.structure_charts import agreement_chart
from models.explanation.limits import ENERGY_RATIO_MIN, SHIFT_SSIM_MIN
from models.manifest import Manifest
from models.robustness.drops import METRIC_WORDS
from models.robustness.natural import LIMIT_POINTS, LIMIT_SEVERITY

TEMPLATES = Path(__file__).parent / "templates"
FORESTS = {
    "dice": "Dice of cases with a lesion",
    "lesion_sensitivity": "share of lesions found",
    "accuracy": "share of images whose class is right",
}


@dataclass(frozen=True)
class ShownPicture:
    """A picture inside the page: `address` holds the whole PNG."""

    name: str
    result: str
    address: str


def report_page(
    evaluation: Evaluation,
    manifest: Manifest,
    worst: Sequence[CasePicture],
    at_random: Sequence[CasePicture],
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    forests = []
    named = dict(FORESTS)
    if evaluation.structures:
        named = {"dice": "Dice, mean over the structures of a case"} | {
            f"dice_{row.key}": f"Dice of {row.label}" for row in evaluation.structures
        }
    for metric, words in named.items():
        rows = [row for row in evaluation.strata if row.metric == metric]
        if any(row.division == "all" for row in rows):
            forests.append((words, forest_chart(rows, words)))
    classes = evaluation.classes
    attacks = evaluation.robustness.adversarial if evaluation.robustness else None
    return environment.get_template("structures.html" if evaluation.structures else "report.html").render(
        it=evaluation,
        card=manifest.card,
        explain=manifest.explain,
        energy_ratio_min=ENERGY_RATIO_MIN,
        shift_ssim_min=SHIFT_SSIM_MIN,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        amount=amount,
        unit=evaluation.length_unit,
        froc=froc_chart(evaluation.froc) if evaluation.froc else None,
        roc=roc_chart(classes) if classes else None,
        reliability=reliability_chart(classes) if classes else None,
        coverage=coverage_chart(classes) if classes else None,
        natural=natural_charts(evaluation.robustness.natural) if evaluation.robustness else [],
        attacks=attack_charts(attacks) if attacks else [],
        attack_cases=attacks.cases if attacks else 0,
        metric_words=METRIC_WORDS,
        limit_points=LIMIT_POINTS,
        limit_severity=LIMIT_SEVERITY,
        forests=forests,
        worst=[shown_picture(picture) for picture in worst],
        at_random=[shown_picture(picture) for picture in at_random],
        found_colour=FOUND_COLOUR,
        truth_colour=TRUTH_COLOUR,
        agreements=[(row.label, chart) for row in evaluation.structures if (chart := agreement_chart(row))],
        published=PUBLISHED_OF.get(evaluation.package.id, PUBLISHED.get(evaluation.kind, ())),
        chosen_on=next(point.chosen_on for point in manifest.operating_points if point.default),
        data_licence="; ".join(item.licence for item in manifest.training.data) if manifest.training else "",
    )


def amount(value: float) -> str:
    """Three decimals, or one where the number is larger than ten."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def shown_picture(picture: CasePicture) -> ShownPicture:
    """The picture as part of the page."""
    address = "data:image/png;base64," + base64.b64encode(picture.png()).decode()
    return ShownPicture(picture.name, picture.result, address)
