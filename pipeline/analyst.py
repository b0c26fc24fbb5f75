"""The process that reads studies: models stay loaded, memory is limited, and it may die without harm.

It has no database: it gets rows as values, reads the stored bytes itself and answers with values. What
peers sent is decoded here and only here, so a hostile image costs one attempt of one job.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
from collections.abc import Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from config import logs
from config.errors import PrereadError
from config.settings import Settings
from db.instances import ByteStore
from models.inference.loaded import Loaded
from models.inference.threads import set_threads
from models.inference.tuning import tune
from models.package import Package
from models.predictor import Prediction, Predictor
from models.sorting.sorter import Sorter
from pipeline.assignment import (
    AnalyseAssignment,
    Analysis,
    Assignment,
    Done,
    EarlyPlanAssignment,
    Failed,
    PlanAssignment,
    Ready,
    Stage,
)
from pipeline.faults import kind_and_place, path_of
from pipeline.packages import Offer, offer_of
from pipeline.read_study import analyse_study, plan_early, plan_study
from pipeline.reading.series_eye import SeriesEye
from pipeline.reading.source_series import SourceSeries
from pipeline.write_results import report_refused_analysis, report_refused_plan, write_results

NETWORKS_SHARE: Final = 4  # loaded networks may take this part of the memory limit
VOLUME_SHARE: Final = 8  # a volume may take this part of the memory limit; prediction needs several copies
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_MEMORY_WORDS: Final = ("can't allocate memory", "out of memory", "Unable to allocate", "bad_alloc")


def serve_assignments(pipe: Connection, settings: Settings, parent: int) -> None:
    """Main of the process: say that the models are ready, then work on what comes through the pipe.

    Parameters
    ----------
    parent : process id of the worker; this process dies with it
    """
    _die_with(parent)
    logs.configure(level=settings.log.level, form=settings.log.form)
    # pydicom quotes values in its warnings (law 7).
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    _limit_memory(settings.worker.memory_gib)
    set_threads(settings.worker.threads)
    analyst = _Analyst(pipe, settings)
    pipe.send(analyst.prepare())
    while True:
        try:
            assignment: Assignment = pipe.recv()
        except EOFError:
            return
        answer = analyst.work(assignment)
        pipe.send(answer)
        if isinstance(answer, Failed):
            # Memory may be fragmented, a library may be in a bad state: begin anew.
            return


class _Analyst:
    def __init__(self, pipe: Connection, settings: Settings) -> None:
        self._pipe, self._settings = pipe, settings
        self._bytes = ByteStore(settings.spool_folder)
        self._offer = Offer((), ())
        self._eye: SeriesEye | None = None
        self._loaded = Loaded[Predictor](
            int(settings.worker.memory_gib * (1 << 30)) // NETWORKS_SHARE, lambda one: one.weight_bytes
        )
        self._stage = "trying its golden case"

    def prepare(self) -> Ready:
        """Load and try each package; one that fails its golden case does not run."""
        offer = offer_of(self._settings)
        refused = [f"{name}: {error.what}" for name, error in offer.refused]
        runs: list[Package] = []
        device = self._settings.worker.device
        for package in offer.runs:
            try:
                predictor = self._predictor(package)
                self._check_golden(package, predictor)
            except PrereadError as error:
                refused.append(f"{package.manifest.id}: {error.what}")
                continue
            except Exception as error:  # noqa: BLE001 a package that cannot be tried must not stop the others
                refused.append(f"{package.manifest.id}: {self._failed(error).error}")
                continue
            device = predictor.device.type  # type: ignore[assignment]
            runs.append(package)
        self._eye = self._opened_eye(offer, refused)
        self._offer = Offer(tuple(runs), offer.refused, offer.sorter)
        models = tuple(f"{package.manifest.id} {package.manifest.version}" for package in runs)
        return Ready(device, models, tuple(refused))

    def work(self, assignment: Assignment) -> Done | Failed:
        """Do one assignment; the edge of an attempt: whatever goes wrong is told, once."""
        try:
            if isinstance(assignment, PlanAssignment):
                self._say("planning")
                plan = plan_study(assignment.study, self._offer.runs, self._bytes.read, eye=self._eye)
                return Done(report_refused_plan(assignment, plan, self._settings, self._bytes.read))
            if isinstance(assignment, EarlyPlanAssignment):
                self._say("planning")
                packages, read_bytes = self._offer.runs, self._bytes.read
                return Done(plan_early(assignment.study, assignment.whole, packages, read_bytes))
            return Done(self._analyse(assignment))
        except PrereadError as error:
            return Failed(error.what, error.remedy or "See the log of the worker.", retry=True)
        except Exception as error:  # noqa: BLE001 the edge of an attempt
            return self._failed(error)

    def _analyse(self, assignment: AnalyseAssignment) -> Analysis:
        package = self._offer.package(assignment.model)
        slot = self._offer.slot(assignment.model)

        def write(sources: Sequence[SourceSeries], predictions: Sequence[Prediction]) -> Analysis:
            return write_results(
                assignment, package, slot, sources, predictions, self._settings, self._bytes.read
            )

        analysis = analyse_study(
            assignment,
            self._predictor(package),
            write,
            read_bytes=self._bytes.read,
            stage=self._say,
            bytes_max=self._volume_bytes_max,
            eye=self._eye,
        )
        return report_refused_analysis(assignment, package, slot, analysis, self._settings, self._bytes.read)

    @property
    def _volume_bytes_max(self) -> int:
        return int(self._settings.worker.memory_gib * (1 << 30)) // VOLUME_SHARE

    def _opened_eye(self, offer: Offer, refused: list[str]) -> SeriesEye | None:
        """What looks at pixels where headers are silent; None where no sorter runs here."""
        if offer.sorter is None:
            return None
        try:
            sorter = Sorter(offer.sorter)
            report = sorter.verify_golden()
        except PrereadError as error:
            refused.append(f"{offer.sorter.manifest.id}: {error.what}")
            return None
        except Exception as error:  # noqa: BLE001 a sorter that cannot be tried must not stop the models
            refused.append(f"{offer.sorter.manifest.id}: {self._failed(error).error}")
            return None
        if not report.passed:
            refused.append(
                f"{offer.sorter.manifest.id}: its golden case comes out differently ({report.message})"
            )
            return None
        may_stand_in = self._settings.packages.pixels == "stand_in"
        return SeriesEye(sorter, may_stand_in, self._volume_bytes_max)

    def _say(self, stage: str) -> None:
        self._stage = stage
        self._pipe.send(Stage(stage))

    def _predictor(self, package: Package) -> Predictor:
        """The loaded network; the one longest unused makes room."""
        return self._loaded.get(package.digest, lambda: self._load(package))

    def _load(self, package: Package) -> Predictor:
        predictor = Predictor(package, device=self._settings.worker.device)
        tune(predictor, self._settings.state_folder / "run")
        return predictor

    def _check_golden(self, package: Package, predictor: Predictor) -> None:
        """Run the golden case once per package, library version and device; no golden, no clinic."""
        layout = f"{predictor.layout.dtype}{'-channels-last' if predictor.layout.channels_last else ''}"
        name = f"golden-{package.digest[:16]}-torch{version('torch')}-{predictor.device.type}-{layout}"
        passed = self._settings.state_folder / "run" / name
        if passed.exists():
            return
        report = predictor.verify_golden()
        if not report.passed:
            raise PrereadError(
                f"its golden case comes out differently on this machine ({report.message})",
                where=package.manifest.id,
                remedy="Run `preread models verify`; do not use the model here until it passes.",
            )
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()

    def _failed(self, error: Exception) -> Failed:
        """What a person may read of an exception: where and which kind; its text may name a patient."""
        limit = self._settings.worker.memory_gib
        what = kind_and_place(error)
        logs.logger("analyst").error("attempt failed", stage=self._stage, what=what, path=path_of(error))
        if isinstance(error, MemoryError) or any(words in str(error) for words in _MEMORY_WORDS):
            return Failed(
                f"out of memory while {self._stage} (limit {limit:g} GiB)",
                "Raise worker.memory_gib, or look at the images: they may claim more than they hold.",
                retry=True,
            )
        return Failed(
            f"{what} while {self._stage}",
            "This is a fault of preread: report it with the study's UID and the log of the worker.",
            retry=True,
        )


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the worker dies, so that no orphan goes on computing (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit_memory(gib: float) -> None:
    """Limit what the process may allocate, and offer it to the kernel first when the machine runs out.

    RLIMIT_DATA counts private writable memory and nothing else; RLIMIT_AS also counts address space that a
    CUDA context reserves by the hundred gigabytes and never touches. With either, torch and numpy raise
    (tried: torch 2.13 on a CPU at 1 and 4 GiB).
    """
    limit = int(gib * (1 << 30))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold patients
    Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
