"""What must happen by the clock: expired leases, retention by age and disk mark, parked deliveries.

Every worker does it; each step is safe to be done by several at once. Retention drops only finished studies,
oldest first; the space comes back when the segments they lay in hold nothing else, and what little else they
hold is moved forward.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from apscheduler.schedulers.background import BackgroundScheduler

from config.logs import logger
from config.settings import Settings
from db.engine import Database, DatabaseUnavailable
from db.instances import BytesMissing
from db.jobs import reap_expired
from db.records import FinishedStudy
from db.retention import finished_studies, forget_study
from db.segments import kept_bytes, kept_records, retire_segments, stores_in_use
from db.spool_files import SpoolFull
from db.spool_records import segment_path
from db.workers import forget_worker, list_workers
from db.worklist import queue
from pipeline.result_store import ResultStore

DAY_SECONDS: Final = 86400.0
RETENTION_SECONDS: Final = 900.0
PARKED_SECONDS: Final = 3600.0
SILENT_SECONDS: Final = 600.0  # a worker that was silent for so long is not shown any more
KEPT_SHARE_MAX: Final = 0.25  # a segment that is needed for less than this is emptied by moving

log = logger("housekeeping")


@dataclass(frozen=True)
class Retained:
    """What retention did, or would do.

    Parameters
    ----------
    dropped : studies dropped, oldest first; with `dry_run` those that would be
    moved : records moved out of segments that held little else
    retired : segments that can be used again
    """

    dropped: tuple[FinishedStudy, ...]
    moved: int
    retired: int


class Housekeeping:
    """The clock of one worker.

    Parameters
    ----------
    store : where bytes are moved to
    """

    def __init__(self, settings: Settings, store: ResultStore) -> None:
        self._settings, self._store = settings, store
        self._scheduler = BackgroundScheduler(timezone="UTC", daemon=True)
        self._database: Database | None = None

    def start(self) -> None:
        """Begin, in threads of the scheduler."""
        self._database = database = Database.open(self._settings.database_url)
        chores: tuple[tuple[Callable[[Database], object], float], ...] = (
            (reap_expired, max(1.0, self._settings.worker.lease_seconds / 2)),
            (self.retain, RETENTION_SECONDS),
            (report_parked, PARKED_SECONDS),
            (forget_silent_workers, SILENT_SECONDS),
        )
        for chore, seconds in chores:
            self._scheduler.add_job(
                _undisturbed(chore, database),
                "interval",
                seconds=seconds,
                # After a long pause (a suspended machine) once is enough.
                coalesce=True,
                misfire_grace_time=None,
                max_instances=1,
            )
        self._scheduler.start()

    def stop(self) -> None:
        """End; waits for a chore under way, all of which are short."""
        if self._database is not None:
            self._scheduler.shutdown(wait=True)
            self._database.close()
            self._database = None

    def retain(self, database: Database) -> Retained:
        """Drop what is too old, and the oldest while the disk is too full; with `dry_run` only say so."""
        rules = self._settings.retention
        chosen = self._to_drop(database)
        if rules.dry_run:
            for study in chosen:
                log.info("would drop", study_uid=study.study_uid, stored_bytes=study.stored_bytes)
            return Retained(tuple(chosen), 0, 0)
        dropped = [study for study in chosen if forget_study(database, study.study_id) is not None]
        for study in dropped:
            log.info("dropped", study_uid=study.study_uid, stored_bytes=study.stored_bytes)
        stores = stores_in_use(database)
        retired = sum(len(retire_segments(database, store)) for store in stores)
        moved = sum(self._emptied(database, store) for store in stores) if dropped else 0
        if moved:
            retired += sum(len(retire_segments(database, store)) for store in stores)
        return Retained(tuple(dropped), moved, retired)

    def _to_drop(self, database: Database) -> list[FinishedStudy]:
        rules = self._settings.retention
        now = database.now()
        chosen = finished_studies(database, now - rules.days * DAY_SECONDS)
        usage = shutil.disk_usage(self._settings.state_folder)
        excess = usage.used - usage.total * rules.disk_percent_max / 100
        excess -= sum(study.stored_bytes for study in chosen)
        if excess > 0:
            older = {study.study_id for study in chosen}
            for study in finished_studies(database, now):
                if excess <= 0:
                    break
                if study.study_id not in older:
                    chosen.append(study)
                    excess -= study.stored_bytes
        return chosen

    def _emptied(self, database: Database, store: str) -> int:
        """Move the last records out of segments that are needed for little else; how many moved."""
        moved = 0
        for (segment, epoch), kept in kept_bytes(database, store).items():
            path = segment_path(self._settings.spool_folder / store, segment)
            if not path.exists() or kept > KEPT_SHARE_MAX * path.stat().st_size:
                continue
            try:
                moved += self._store.move_here(kept_records(database, store, segment, epoch))
            except (BytesMissing, SpoolFull) as error:
                log.warning("not moved", store=store, segment=segment, why=error.what)
        return moved


def report_parked(database: Database) -> int:
    """Say in the log that deliveries wait for a person; how many."""
    parked = queue(database).parked
    if parked:
        destinations = sorted({item.delivery.destination for item in parked})
        log.warning("deliveries are parked", count=len(parked), destinations=destinations)
    return len(parked)


def forget_silent_workers(database: Database) -> int:
    """Forget workers that did not say goodbye; how many."""
    alive = {worker.name for worker in list_workers(database, seen_within_seconds=SILENT_SECONDS)}
    silent = [worker.name for worker in list_workers(database) if worker.name not in alive]
    for name in silent:
        forget_worker(database, name)
    return len(silent)


def _undisturbed(chore: Callable[[Database], object], database: Database) -> Callable[[], None]:
    """The chore at the edge of a thread: a database that is away only postpones it."""

    def run() -> None:
        try:
            chore(database)
        except DatabaseUnavailable as error:
            log.warning("postponed", why=error.what)
        except Exception:
            log.exception("chore failed")

    return run
