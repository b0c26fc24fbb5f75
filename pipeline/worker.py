"""The worker: claim a job, have it read by the analyst, keep the lease, commit what came out; no image code.

Kill points (reliability.md): K11 job claimed and the model running; K12 results durable, before and after the
commit that makes them known; K13 (in outbound.delivery) sent, not yet recorded.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeVar

from config import kill_points
from config.errors import PrereadError
from config.logs import logger
from config.settings import Settings
from db import jobs
from db.engine import Database, DatabaseUnavailable
from db.records import Claim, WorkerRecord
from db.spool_files import SpoolFailed
from db.workers import beat, forget_worker
from pipeline.analyst_process import START_SECONDS_MAX, AnalystProcess, Ended
from pipeline.assignment import Assignment, Done, EarlyPlan, Failed, Finished, Ready, Stage
from pipeline.faults import kind_and_place, path_of
from pipeline.housekeeping import Housekeeping
from pipeline.job_rows import assignment_of, commit
from pipeline.outbound.delivery import Delivering
from pipeline.result_store import ResultStore

TICK_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 10.0  # a job may end so long after SIGTERM; then it is given back
BEAT_SECONDS: Final = 5.0
DELIVERY_STOP_SECONDS: Final = 10.0
RESTART_SECONDS_MAX: Final = 60.0

T = TypeVar("T")
log = logger("worker")


def run_worker(settings: Settings, *, name: str | None = None, once: bool = False) -> int:
    """Claim and do jobs and deliver results until SIGTERM or SIGINT; the exit code.

    Parameters
    ----------
    name : shown on the page; host and process id without it
    once : end when nothing is ready any more, with what is due delivered
    """
    worker = Worker(settings, name or f"{socket.gethostname()}-{os.getpid()}")
    with worker.signals():
        return worker.run(once=once)


class Worker:
    """One worker; runs in the main thread of its process."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._database = Database.open(settings.database_url)
        self._store = ResultStore(settings.spool_folder, self._database)
        self._delivering = Delivering(settings, worker=name)
        self._housekeeping = Housekeeping(settings, self._store)
        self._analyst: AnalystProcess | None = None
        self._ready = Ready(settings.worker.device, (), ())
        self._stop_asked_at: float | None = None
        self._stage: str | None = None
        self._job_id: int | None = None
        self._beaten_at = -BEAT_SECONDS
        self._restart_seconds = 1.0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT: the job under way ends soon or is given back."""
        former = {number: signal.signal(number, self._ask_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def run(self, *, once: bool) -> int:
        """As `run_worker`."""
        try:
            self._database.subscribe("jobs")
            if not once:
                self._delivering.start()
                self._housekeeping.start()
            self._work(once=once)
            if once:
                self._delivering.deliver_due(self._database)
            return 0
        except SpoolFailed as error:
            log.error("disk failed", why=str(error))
            return 1
        finally:
            self._close()

    def _work(self, *, once: bool) -> None:
        poll_seconds = self._settings.worker.poll_seconds
        while not self._stopping and self._analyst_is_ready():
            try:
                self._beat(None, None)
                claim = jobs.claim_next(
                    self._database, worker=self._name, lease_seconds=self._settings.worker.lease_seconds
                )
                if claim is not None:
                    self._do(claim)
                elif once:
                    return
                else:
                    self._database.wait_for("jobs", poll_seconds)
            except DatabaseUnavailable as error:
                log.warning("database away", why=error.what)
                time.sleep(poll_seconds)

    def _do(self, claim: Claim) -> None:
        """One attempt of one job; whatever happens, the job is settled, given back or left to its lease."""
        log.info("claimed", job=claim.job_id, kind=claim.kind, study_uid=claim.study_uid, model=claim.model)
        started = time.monotonic()
        try:
            assignment = assignment_of(self._database, claim)
            finished = self._watched(claim, assignment)
            if finished is not None:
                self._commit(claim, finished)
                seconds = round(time.monotonic() - started, 2)
                log.info("finished", job=claim.job_id, study_uid=claim.study_uid, seconds=seconds)
        except (DatabaseUnavailable, SpoolFailed):
            raise
        except PrereadError as error:
            self._fail(claim, error.what, error.remedy or "See the log of the worker.")
        except Exception as error:  # noqa: BLE001 the edge of an attempt
            log.error("attempt failed", job=claim.job_id, path=path_of(error))
            self._fail(
                claim,
                f"{kind_and_place(error)} in the worker",
                "This is a fault of preread: report it with the log of the worker.",
            )

    def _watched(self, claim: Claim, assignment: Assignment) -> Finished | None:
        """Have the analyst do it, with the lease kept and the limits held; None: no result, job settled."""
        if self._analyst is None:
            raise ValueError("no analyst was started")
        analyst, limits = self._analyst, self._settings.worker
        analyst.give(assignment)
        ends_at = time.monotonic() + limits.job_seconds_max
        extend_at = time.monotonic() + limits.lease_seconds / 3
        while True:
            report = analyst.hear(TICK_SECONDS)
            if isinstance(report, Done):
                return report.result
            if isinstance(report, Failed):
                self._end_analyst()
                self._fail(claim, report.error, report.remedy, retry=report.retry)
                return None
            if isinstance(report, Ended):
                self._analyst = None
                self._fail(
                    claim,
                    f"the process that read the study {report.how}",
                    "Look at the images and at worker.memory_gib; the study can be tried again.",
                )
                return None
            if isinstance(report, Stage):
                self._tell_stage(claim, report.name)
            now = time.monotonic()
            if now >= extend_at:
                extend_at = now + limits.lease_seconds / 3
                if not self._extended(claim):
                    log.warning("lease lost", job=claim.job_id)
                    self._end_analyst()
                    return None
            if now >= ends_at:
                self._end_analyst()
                self._fail(
                    claim,
                    f"the job took longer than {limits.job_seconds_max:g} s while {self._stage}",
                    "Raise worker.job_seconds_max, or give the worker a faster machine.",
                )
                return None
            if self._stop_asked_at is not None and now >= self._stop_asked_at + GRACE_SECONDS:
                self._end_analyst()
                jobs.give_back(self._database, claim)
                log.info("given back", job=claim.job_id)
                return None

    def _tell_stage(self, claim: Claim, stage: str) -> None:
        self._beaten_at = -BEAT_SECONDS
        self._beat(stage, claim.job_id)
        self._whatever_the_database(lambda: jobs.set_stage(self._database, claim, stage), None)
        if stage == "predicting":
            kill_points.reached("K11")

    def _extended(self, claim: Claim) -> bool:
        """False: the lease was lost. A database that is away takes nothing away: its clock decides later."""
        lease_seconds = self._settings.worker.lease_seconds
        self._beat(self._stage, claim.job_id)
        return self._whatever_the_database(lambda: jobs.extend(self._database, claim, lease_seconds), True)

    def _commit(self, claim: Claim, finished: Finished) -> None:
        """Bytes first, then one commit of all rows; a lost lease drops the result."""
        with self._store.batch() as batch:
            results = batch.write(() if isinstance(finished, EarlyPlan) else finished.objects)
            kill_points.reached("K12")
            is_kept = self._persistently(
                lambda: commit(self._database, self._settings, claim, finished, results)
            )
        if not is_kept:
            log.warning("lease lost, result dropped", job=claim.job_id)
        kill_points.reached("K12")

    def _fail(self, claim: Claim, error: str, remedy: str, *, retry: bool = True) -> None:
        log.error("attempt failed", job=claim.job_id, error=error)
        jobs.fail(self._database, claim, error=error, remedy=remedy, retry=retry)

    def _persistently(self, write: Callable[[], T]) -> T:
        """Try a commit until the lease must have ended: an hour of computing is worth some patience."""
        ends_at = time.monotonic() + self._settings.worker.lease_seconds
        while True:
            try:
                return write()
            except DatabaseUnavailable:
                if time.monotonic() >= ends_at or self._stopping:
                    raise
                time.sleep(TICK_SECONDS)

    def _whatever_the_database(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except DatabaseUnavailable as error:
            log.warning("database away", why=error.what)
            return otherwise

    def _beat(self, stage: str | None, job_id: int | None) -> None:
        """Show on the page that this worker is alive and what it does."""
        self._stage, self._job_id = stage, job_id
        if time.monotonic() < self._beaten_at + BEAT_SECONDS:
            return
        self._beaten_at = time.monotonic()
        record = WorkerRecord(
            name=self._name,
            pid=os.getpid(),
            host=socket.gethostname(),
            device=self._ready.device,
            stage=stage,
            job_id=job_id,
            memory_bytes=self._analyst.memory_bytes() if self._analyst else 0,
            models=self._ready.models,
        )
        self._whatever_the_database(lambda: beat(self._database, record), None)

    def _analyst_is_ready(self) -> bool:
        """Start the analyst if there is none and wait until its models are loaded; False: told to stop."""
        while not self._stopping:
            if self._analyst is not None:
                return True
            self._analyst = AnalystProcess(self._settings)
            while not self._stopping:
                self._beat("loading models", None)
                report = self._analyst.hear(TICK_SECONDS)
                if isinstance(report, Ready):
                    self._ready, self._restart_seconds, self._beaten_at = report, 1.0, -BEAT_SECONDS
                    for refused in report.refused:
                        log.warning("package does not run", why=refused)
                    log.info("ready", device=report.device, models=list(report.models))
                    return True
                late = time.monotonic() >= self._analyst.started_at + START_SECONDS_MAX
                if isinstance(report, Ended) or late:
                    how = report.how if isinstance(report, Ended) else "did not become ready"
                    log.error("analyst not ready", how=how, next_try_in_seconds=self._restart_seconds)
                    self._end_analyst()
                    self._pause(self._restart_seconds)
                    self._restart_seconds = min(self._restart_seconds * 2, RESTART_SECONDS_MAX)
                    break
        return False

    def _pause(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < ends_at:
            time.sleep(TICK_SECONDS)

    def _end_analyst(self) -> None:
        if self._analyst is not None:
            self._analyst.kill()
            self._analyst = None

    @property
    def _stopping(self) -> bool:
        return self._stop_asked_at is not None

    def _ask_stop(self, number: int, _: FrameType | None) -> None:
        self._stop_asked_at = self._stop_asked_at or time.monotonic()

    def _close(self) -> None:
        self._end_analyst()
        self._delivering.stop(DELIVERY_STOP_SECONDS)
        self._housekeeping.stop()
        self._store.close()
        self._whatever_the_database(lambda: forget_worker(self._database, self._name), None)
        self._database.close()
