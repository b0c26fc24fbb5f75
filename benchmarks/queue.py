"""Jobs claimed and done per second, from short and long queues, on SQLite and Postgres, beside procrastinate.

Every job is claimed as a worker claims it and ended as an analysis without objects ends: the lease, the study
and its timeline are written, each in a durable commit (Postgres with fsync). All kinds run alternately, in an
order that is shuffled each round, each from a queue that was filled up to its length again; what is printed
are medians and the least and greatest round. `wait` is the longest time any claimant waited for one claim.
`scripts/bench queue [--rounds 5] [--rows 1000,100000] [--workers 1,4] [--databases sqlite]`.
"""

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import procrastinate
import sqlalchemy as sa

from db.engine import Database
from db.jobs import claim_next
from db.results import commit_analysis
from db.tables import JOB, STUDY
from tests.postgres_server import PostgresServer, postgres_binaries

JOBS_OF_A_MEASUREMENT = 1000  # and one of each worker before
FILL_AT_ONCE = 50_000
LEASE_SECONDS = 600.0
START_SECONDS = 60.0


@dataclass(frozen=True)
class Kind:
    """One way of measuring."""

    database: str  # sqlite, postgresql, procrastinate
    rows: int
    workers: int


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    per_second: float
    claim_median_ms: float
    claim_longest_ms: float


def fill(url: str, rows: int) -> None:
    """Studies with one queued analysis each, until `rows` jobs are queued."""
    database = Database.open(url)
    queued = sa.select(sa.func.count()).where(JOB.c.state == "queued")
    with database.read() as conn:
        missing = rows - int(conn.execute(queued).scalar_one())
        first = int(conn.execute(sa.select(sa.func.coalesce(sa.func.max(STUDY.c.id), 0))).scalar_one())
    while missing > 0:
        count = min(missing, FILL_AT_ONCE)
        ids = range(first + 1, first + 1 + count)
        with database.write() as conn:
            conn.execute(sa.insert(STUDY), [_study(number) for number in ids])
            conn.execute(sa.insert(JOB), [_job(number) for number in ids])
        first, missing = first + count, missing - count
    database.close()


def _study(number: int) -> dict[str, Any]:
    texts = "patient_id patient_name birth_date sex accession study_date study_time body_part headline"
    return {
        **dict.fromkeys(texts.split(), ""),
        "id": number,
        "study_uid": f"2.25.{number}",
        "revision": 1,
        "state": "whole",
        "partial": False,
        "priority": 0,
        "urgency": 0,
        "source_ae": "MODALITY",
        "modalities": "US",
        "description": "",
        "instances": 1,
        "received_bytes": 1,
        "first_received_at": 0.0,
        "last_received_at": 0.0,
    }


def _job(number: int) -> dict[str, Any]:
    return {
        "kind": "analyse",
        "study_id": number,
        "revision": 1,
        "model": "breast-us-lesion",
        "state": "queued",
        "priority": number % 3,
        "attempts": 0,
        "attempts_max": 3,
        "fence": 0,
        "parameters": {},
        "created_at": 0.0,
    }


def work(url: str, name: str, count: int, start: Barrier, answers: Any) -> None:
    """One worker process: claim and end `count` jobs; answers (began, ended, seconds of each claim)."""
    database = Database.open(url)
    claim_and_end(database, name)  # statements are compiled by a process's first job
    start.wait(START_SECONDS)
    began = time.monotonic()
    claims = [claim_and_end(database, name) for _ in range(count)]
    answers.put((began, time.monotonic(), claims))
    database.close()


def claim_and_end(database: Database, worker: str) -> float:
    """One job; returns the seconds of its claim."""
    asked = time.monotonic()
    claim = claim_next(database, worker=worker, lease_seconds=LEASE_SECONDS)
    seconds = time.monotonic() - asked
    if claim is None:
        raise RuntimeError("the queue is empty although it was filled")
    ended = commit_analysis(
        database,
        claim,
        outcome="analysed",
        reason_code=None,
        sentence=None,
        findings={"lesions": [], "headline": "no findings"},
        results=(),
        deliveries=(),
    )
    if not ended:
        raise RuntimeError(f"job {claim.job_id} was claimed by another worker too")
    return seconds


def measure_preread(url: str, kind: Kind) -> Figure:
    """Fill up, then let the workers go at once."""
    fill(url, kind.rows + kind.workers)
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(kind.workers), context.Queue()
    count = JOBS_OF_A_MEASUREMENT // kind.workers
    workers = [
        context.Process(target=work, args=(url, f"worker-{number}", count, start, answers))
        for number in range(kind.workers)
    ]
    for worker in workers:
        worker.start()
    ended = [answers.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(last for _, last, _ in ended) - min(first for first, _, _ in ended)
    claims = [claim for _, _, own in ended for claim in own]
    return Figure(count * kind.workers / seconds, 1000 * statistics.median(claims), 1000 * max(claims))


def measure_procrastinate(dsn: str) -> Figure:
    """As many jobs that do nothing, one after the other, by one worker of procrastinate."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))

    @app.task(name="nothing")
    def nothing(number: int) -> None:
        del number

    async def run() -> float:
        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
            await nothing.batch_defer_async(*({"number": number} for number in range(JOBS_OF_A_MEASUREMENT)))
            began = time.monotonic()
            await app.run_worker_async(
                wait=False, concurrency=1, install_signal_handlers=False, listen_notify=False
            )
            return time.monotonic() - began

    return Figure(JOBS_OF_A_MEASUREMENT / asyncio.run(run()), float("nan"), float("nan"))


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """A private server that syncs its commits."""
    binaries = postgres_binaries()
    if binaries is None:
        raise SystemExit("postgresql is not installed (apt install postgresql)")
    server = PostgresServer(binaries, folder, is_durable=True)
    try:
        yield server
    finally:
        server.stop()


def run_rounds(
    kinds: Sequence[Kind], rounds: int, folder: Path, server: PostgresServer
) -> dict[Kind, list[Figure]]:
    """All kinds, each round in another order."""
    urls: dict[tuple[str, int], str] = {}
    for kind in kinds:
        key = (kind.database, kind.rows)
        if key in urls or kind.database == "procrastinate":
            continue
        sqlite = f"sqlite:///{folder / f'{kind.rows}.db'}"
        urls[key] = sqlite if kind.database == "sqlite" else server.url(server.create())
        database = Database.open(urls[key])
        database.migrate()
        database.close()
        fill(urls[key], kind.rows)
    peer = server.dsn(server.create())
    found: dict[Kind, list[Figure]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        for kind in random.Random(turn).sample(list(kinds), len(kinds)):
            if kind.database == "procrastinate":
                figure = measure_procrastinate(peer)
            else:
                figure = measure_preread(urls[kind.database, kind.rows], kind)
            found[kind].append(figure)
            print(f"  round {turn + 1}: {described(kind)} {figure.per_second:8.0f}/s", flush=True)
    return found


def described(kind: Kind) -> str:
    """A kind in the first columns of a line."""
    return f"{kind.database:14} {kind.rows:9,} rows {kind.workers:3} workers"


def print_table(found: dict[Kind, list[Figure]]) -> None:
    """Medians with the least and the greatest round, and ratios to procrastinate and to the short queue."""
    rate = {kind: statistics.median(f.per_second for f in figures) for kind, figures in found.items()}
    peer = next((rate[kind] for kind in rate if kind.database == "procrastinate"), None)
    print(
        f"\n{'':46}jobs/s  [least to greatest]  claim p50, longest ms   beside procrastinate, shortest queue"
    )
    for kind, figures in found.items():
        rates = [figure.per_second for figure in figures]
        shortest = min(k.rows for k in rate if (k.database, k.workers) == (kind.database, kind.workers))
        first = rate[Kind(kind.database, shortest, kind.workers)]
        line = f"{described(kind)} {rate[kind]:10.0f}  [{min(rates):6.0f} to {max(rates):6.0f}]"
        line += f"  {statistics.median(f.claim_median_ms for f in figures):6.2f}"
        line += f" {max(f.claim_longest_ms for f in figures):8.1f}"
        beside = f"{rate[kind] / peer:6.2f} x" if peer else ""
        print(f"{line} {beside:>14} {rate[kind] / first:6.2f} x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--workers", default="1,4,16")
    parser.add_argument("--databases", default="sqlite,postgresql,procrastinate")
    chosen = parser.parse_args()
    rows = [int(text) for text in chosen.rows.split(",")]
    workers = [int(text) for text in chosen.workers.split(",")]
    databases = chosen.databases.split(",")
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    kinds = [Kind(d, n, w) for d in databases if d != "procrastinate" for n in rows for w in workers]
    if "procrastinate" in databases:
        kinds.append(Kind("procrastinate", JOBS_OF_A_MEASUREMENT, 1))
    # Not below a folder of root's own: the user postgres must reach it, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="preread-pg-", ignore_cleanup_errors=True) as name:
        cluster, folder = Path(name) / "pg", Path(name) / "sqlite"
        Path(name).chmod(0o755)
        cluster.mkdir()
        folder.mkdir()
        with postgres(cluster) as server:
            print_table(run_rounds(kinds, chosen.rounds, folder, server))


if __name__ == "__main__":
    main()
