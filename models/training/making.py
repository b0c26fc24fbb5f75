"""A package from its recipe, stage by stage: prepare, split, cache, train, out-of-fold, evaluate, package.

Reads as the list of stages. Each is done once for the inputs it depends on (see stages); a second call finds
everything and does nothing, a changed setting does what depends on it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.evaluation.case_result import CaseResult
from models.evaluation.evaluate import EvaluationReport
from models.package import Package
from models.training.build import Measured, reports_of
from models.training.case_stages import Divided, divide, fill_cache, prepare, remarks
from models.training.judged_on import CasesIn, JudgedOn
from models.training.order import Order
from models.training.package_stages import judge, pack
from models.training.run import TrainingRun
from models.training.run_stages import Trained, Trainer
from models.training.stages import Work


@dataclass(frozen=True)
class Made:
    """What came out, as far as the order went."""

    cases: CasesIn
    runs: list[TrainingRun] = field(default_factory=list)
    package: Package | None = None
    reports: tuple[EvaluationReport, ...] = ()


def make_package(order: Order, work: Work) -> Made:
    """Do every stage that the order wants and that is not done yet.

    Raises
    ------
    CasesError, SplitError
        A case cannot be used; or the split leaks or was drawn for other cases: nothing is trained then.
    Unfinished
        The deadline came first.
    """
    cases = prepare(order, work)
    if not order.wants("split"):
        return Made(cases)
    divided = divide(order, work, cases)
    if order.wants("cache"):
        fill_cache(order, work, cases, divided.split)
    if not order.wants("train"):
        return Made(cases)
    trainer = Trainer(order, work, cases)
    if order.fold is not None:
        return Made(cases, trainer.train(divided.split, order.fold).runs)
    shipped = trainer.train(divided.split, 0)
    others: dict[int, Trained] = {}
    if order.out_of_fold and order.wants("out-of-fold"):
        others = {fold: trainer.train(divided.split, fold) for fold in divided.split.fold_numbers[1:]}
    if not order.wants("evaluate"):
        return Made(cases, shipped.runs)
    measured = _measured(order, work, cases, divided, trainer, shipped, others)
    if not order.wants("package"):
        return Made(cases, shipped.runs)
    package = pack(order, work, measured)
    reports = reports_of(package, JudgedOn(order.recipe, divided.split), measured)
    return Made(cases, shipped.runs, package, reports)


def _measured(
    order: Order,
    work: Work,
    cases: CasesIn,
    divided: Divided,
    trainer: Trainer,
    shipped: Trained,
    others: dict[int, Trained],
) -> Measured:
    """Every network judged on the fold it did not see."""
    split, naive = divided.split, divided.naive

    def judged(trained: Trained, fold: int) -> list[CaseResult]:
        return judge(order, work, cases, split, trained, f"fold-{fold}", split.scored(fold))

    results = judged(shipped, 0)
    other_results = [result for fold, trained in others.items() for result in judged(trained, fold)]
    naive_results = None
    if naive is not None:
        network = trainer.train(naive, 0, name="naive")
        naive_results = judge(order, work, cases, naive, network, "naive", naive.scored()), naive.sha256
    return Measured(
        weights=shipped.weights,
        runs=shipped.runs,
        split=split,
        split_file=divided.file,
        results=results,
        others=other_results,
        naive=naive_results,
        remarks=remarks(cases),
    )
