"""Claims under load: many processes, many rows, and the index that keeps a claim flat."""

import json
import subprocess
import sys
from collections import Counter

import pytest
import sqlalchemy as sa

from db import claiming, jobs, tables
from db.engine import Database

ROWS = 4000

_WORKER = """
import json, sys
from db import jobs, results
from db.engine import Database
db = Database.open(sys.argv[1])
done = []
while (claim := jobs.claim_next(db, worker=sys.argv[2], lease_seconds=300)) is not None:
    assert results.commit_analysis(db, claim, outcome="analysed", reason_code=None, sentence=None,
        findings={"headline": sys.argv[2]}, results=[], deliveries=[], predecessors={})
    done.append(claim.job_id)
db.close()
print(json.dumps(done))
"""


def _fill(db: Database, study_id: int, count: int, **values: object) -> None:
    row = {
        "kind": "analyse",
        "study_id": study_id,
        "revision": 1,
        "state": "queued",
        "priority": 0,
        "attempts": 0,
        "attempts_max": 3,
        "fence": 0,
        "parameters": {},
        "created_at": 0.0,
        **values,
    }
    prefix = json.dumps(values, default=str)
    with db.write() as conn:
        conn.execute(sa.insert(tables.JOB), [{**row, "model": f"{prefix}{n}"} for n in range(count)])


def test_processes_that_claim_at_once_do_each_job_exactly_once(db, database_url, life) -> None:
    for n in range(100):
        _fill(db, life.receive(f"1.2.{n}", images=1).id, 5)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, database_url, f"worker{n}"], stdout=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    done = [json.loads(process.communicate(timeout=120)[0]) for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert Counter(job_id for ids in done for job_id in ids) == Counter(
        job.id for job in jobs.list_jobs(db, limit=1000)
    )
    assert {(job.state, job.fence, job.attempts) for job in jobs.list_jobs(db, limit=1000)} == {
        ("done", 1, 1)
    }


def _plan(db: Database, statement: sa.Executable) -> str:
    """How the database would run a statement, in its own words."""
    with db.write() as conn:
        if db.dialect == "postgresql":
            conn.exec_driver_sql("ANALYZE job")
            explain = "EXPLAIN (COSTS OFF) "
        else:
            explain = "EXPLAIN QUERY PLAN "
        compiled = statement.compile(
            conn.engine, compile_kwargs={"render_postcompile": True, "literal_binds": False}
        )
        rows = conn.exec_driver_sql(explain + str(compiled), _parameters(compiled))
        return "\n".join(str(row[-1]) for row in rows)


def _parameters(compiled: sa.Compiled) -> object:
    return (
        tuple(compiled.params[name] for name in compiled.positiontup)
        if compiled.positional
        else compiled.params
    )


@pytest.fixture
def crowded(db: Database, life, clock) -> Database:
    """Ready, waiting, running and done jobs, so that no index is chosen only because a table is small."""
    study = life.receive()
    _fill(db, study.id, ROWS)
    _fill(db, study.id, ROWS, run_after=clock.now + 1e6, priority=9)
    _fill(db, study.id, ROWS, state="done")
    _fill(db, study.id, 500, state="running", lease_until=clock.now + 1e6)
    return db


def _claim_statement(db: Database) -> sa.Executable:
    return claiming.claim_statement(claiming.JOBS, worker="w", now=db.clock(), lease_seconds=60)


def test_claim_walks_the_ready_index_and_sorts_nothing(crowded) -> None:
    plan = _plan(crowded, _claim_statement(crowded))
    assert "ix_job_ready" in plan
    assert "sort" not in plan.lower()
    assert "temp b-tree" not in plan.lower()


def test_due_jobs_and_lapsed_leases_are_found_by_their_indexes(crowded) -> None:
    for statement, index in (
        (claiming.due_statement(claiming.JOBS, now=crowded.clock()), "ix_job_waiting"),
        (claiming.lapsed_statement(claiming.JOBS, now=crowded.clock()), "ix_job_leased"),
    ):
        assert index in _plan(crowded, statement)


def test_waiting_jobs_of_high_priority_cost_a_claim_nothing(postgres_life, clock) -> None:
    """Pages read by one claim do not grow with the rows that wait; counted, not timed."""
    db = postgres_life.db
    study = postgres_life.receive()
    _fill(db, study.id, 10)
    _fill(db, study.id, ROWS, run_after=clock.now + 1e6, priority=9)
    with db.write() as conn:
        conn.exec_driver_sql("ANALYZE job")
        compiled = _claim_statement(db).compile(conn.engine, compile_kwargs={"render_postcompile": True})
        explained = conn.exec_driver_sql(
            "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + str(compiled), _parameters(compiled)
        ).scalar_one()
    top = explained[0]["Plan"]
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 60


def test_claims_keep_their_index_when_the_driver_prepares_them(postgres_life) -> None:
    """A plan made for any parameter must still fit the partial index."""
    db = postgres_life.db
    study = postgres_life.receive()
    _fill(db, study.id, ROWS)
    with db.write() as conn:
        conn.exec_driver_sql("ANALYZE job")
        conn.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        for _ in range(20):
            assert claiming.claim_first(conn, claiming.JOBS, worker="w", lease_seconds=60) is not None
        prepared = conn.exec_driver_sql(
            "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements "
            "WHERE statement LIKE 'UPDATE job SET state%%' AND generic_plans > 0"
        ).one()
        nulls = ", ".join(["NULL"] * prepared[1])
        plan = conn.exec_driver_sql(f'EXPLAIN (COSTS OFF) EXECUTE "{prepared[0]}" ({nulls})').scalars()
        assert "ix_job_ready" in "\n".join(plan)
