"""The stages after training: a network judged on cases it did not see, and the package."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.evaluation.case_result import CaseResult, plain_result, result_from
from models.evaluation.evaluate import judge_all
from models.evaluation.scales import scale_of
from models.package import Package, PackageError, hash_of, load_package
from models.training.build import Measured, build_package, open_draft
from models.training.case_stages import cases_key
from models.training.cases import Listed
from models.training.judged_on import CasesIn
from models.training.order import VERSIONS, Order
from models.training.run_stages import Trained
from models.training.split import Split
from models.training.stages import Telling, Work, key_of

RESULTS, DIGEST = "results.json", "digest"
# What of a recipe decides the answer of a trained network.
DECISIVE = {"id", "version", "network", "preprocess", "inference", "postprocess", "findings", "input"}


def judge(
    order: Order,
    work: Work,
    cases: CasesIn,
    split: Split,
    trained: Trained,
    place: str,
    items: Sequence[Listed],
) -> list[CaseResult]:
    """Results of a network on cases that it did not see, through the file as it would be shipped."""
    recipe, name = order.recipe, f"evaluate/{place}"
    inputs = {
        "version": VERSIONS["evaluate"],
        "weights": hash_of(trained.weights),
        "recipe": recipe.model_dump(mode="json", include=DECISIVE),
        "split": split.sha256,
        "cases": cases_key(cases),
        "names": [item.name for item in items],
    }

    def progress(done: int, of: int) -> None:
        work.tell(Telling(name, f"{done} of {of} cases", done / of))

    def make(out: Path) -> None:
        draft = out / "draft"
        predictor = open_draft(recipe, trained.weights, trained.runs, draft, released=_today())
        results = judge_all(predictor, cases, items, scale=scale_of(recipe), progress=progress)
        shutil.rmtree(draft)
        (out / RESULTS).write_text(json.dumps(_plain(results), indent=1), encoding="utf-8")

    folder = work.stage(name, inputs, make)
    return [result_from(one) for one in json.loads((folder / RESULTS).read_text(encoding="utf-8"))]


def pack(order: Order, work: Work, measured: Measured) -> Package:
    """The package, in the folder of the work under its id."""
    recipe, place = order.recipe, work.folder / order.recipe.id
    inputs = {
        "version": VERSIONS["package"],
        "weights": hash_of(measured.weights),
        "recipe": hashlib.sha256(recipe.resolved().encode()).hexdigest(),
        "split": measured.split.sha256,
        "runs": [asdict(run) for run in measured.runs],
        "results": _plain(measured.results),
        "others": _plain(measured.others),
        "naive": None if measured.naive is None else [_plain(measured.naive[0]), measured.naive[1]],
        "remarks": list(measured.remarks),
        "notes": list(order.notes),
    }

    def is_whole(out: Path) -> bool:
        try:
            return load_package(place).digest == (out / DIGEST).read_text(encoding="utf-8")
        except (PackageError, OSError):
            return False

    def make(out: Path) -> None:
        package, _ = build_package(
            recipe, measured, place, released=_today(), pictured=order.pictured(), notes=order.notes
        )
        (out / DIGEST).write_text(package.digest, encoding="utf-8")

    # The results are many; the record of the stage names them by their hash.
    work.stage("package", {"of": key_of(inputs)}, make, is_whole=is_whole)
    return load_package(place)


def _plain(results: Sequence[CaseResult]) -> list[dict[str, Any]]:
    return [plain_result(result) for result in results]


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"
