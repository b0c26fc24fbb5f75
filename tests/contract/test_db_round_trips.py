"""What a claim and its end cost the database, and that costing little changes nothing."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.pq import Trace

from db import jobs, results, studies, tables
from db.claiming import JOBS
from db.engine import Database, DatabaseUnavailable


@contextmanager
def sent_by(db: Database) -> Iterator[list[str]]:
    """What the driver sends meanwhile: statements to SQLite, messages that await an answer to Postgres."""
    sent: list[str] = []
    with db.read() as conn:  # one thread uses one connection
        driver: Any = conn.connection.driver_connection
    if db.dialect == "sqlite":
        driver.set_trace_callback(sent.append)
        yield sent
        driver.set_trace_callback(None)
        return
    with tempfile.TemporaryFile("w+") as trace:
        driver.pgconn.trace(trace.fileno())
        driver.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield sent
        driver.pgconn.untrace()
        trace.seek(0)
        fields = [line.split("\t") for line in trace if line.startswith("F\t")]
        sent.extend(kind for _, _, kind, *_ in fields if kind.strip() in ("Query", "Sync"))


@pytest.fixture(autouse=True)
def _nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, no connection waits for so long that it is asked before it is used."""
    monkeypatch.setattr("db.postgres.ASKED_AFTER_SECONDS", 3600.0)


def prepare_at_once(db: Database) -> None:
    """Have the driver prepare a statement at its first use, not after five: preparing is a round trip."""
    if db.dialect == "postgresql":
        with db.read() as conn:
            driver: Any = conn.connection.driver_connection
            driver.prepare_threshold = 0


def backend_of(db: Database) -> int:
    with db.read() as conn:
        driver: Any = conn.connection.driver_connection
        return int(driver.info.backend_pid)


def end_backend(url: str, pid: int) -> None:
    """What a restart of the server does to one connection."""
    plain = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,)).fetchone() == (True,)


@pytest.fixture
def timed(database: Database, life: Any) -> Any:
    """The same on the database's own clock: to ask what time it is costs a statement."""
    prepare_at_once(database)
    return type(life)(database, life.received)


def test_claim_and_end_take_few_statements(timed) -> None:
    life, db = timed, timed.db
    life.commit(life.analysing("1.2.1", "brain", "breast"), kinds=())
    life.commit(life.claim(), kinds=())
    for study_uid, models in (("1.2.2", ("brain",)), ("1.2.3", ("brain", "breast"))):
        life.whole(study_uid)
        life.plan(*models)
        for _ in models:
            with sent_by(db) as claiming:
                claim = life.claim()
            with sent_by(db) as ending:
                assert life.commit(claim, kinds=())
            # BEGIN and COMMIT count too
            assert len(claiming) <= {"sqlite": 5, "postgresql": 1}[db.dialect], claiming
            assert len(ending) <= {"sqlite": 7, "postgresql": 5}[db.dialect], ending
        assert life.study(study_uid).outcome == "delivered"


def test_delivery_is_settled_in_few_statements(timed) -> None:
    life, db = timed, timed.db
    for study_uid in ("1.2.1", "1.2.2"):
        life.commit(life.analysing(study_uid), kinds=("SEG",), destinations=("PACS1",))
        claim = results.claim_delivery(db, worker="d", lease_seconds=60)
        assert claim is not None
        with sent_by(db) as ending:
            assert results.settle_delivery(db, claim, status="delivered", detail="", tries_max=3)
    assert len(ending) <= {"sqlite": 8, "postgresql": 7}[db.dialect], ending
    assert life.study().outcome == "delivered"


def test_claim_of_one_kind_leaves_the_other(db, life) -> None:
    life.analysing("1.2.1")
    life.whole("1.2.2")
    assert jobs.claim_next(db, worker="w", kinds=("analyse",), lease_seconds=60) is None
    claim = jobs.claim_next(db, worker="w", kinds=("plan",), lease_seconds=60)
    assert claim is not None
    assert (claim.kind, claim.study_uid, claim.model, claim.parameters["how"]) == (
        *("plan", "1.2.2", None),
        "quiet",
    )


def test_timeline_of_a_claim_says_who_what_and_which_attempt(db, life) -> None:
    claim = life.analysing("1.2.1", "brain's own")
    assert jobs.fail(db, claim, error="broken", remedy="none", backoff_seconds=0)
    life.claim("100% 'quoted'")
    with db.read() as conn:
        event = tables.EVENT.c
        query = sa.select(event.text, event.source, event.study_id, event.job_id).order_by(event.id)
        told = conn.execute(query.where(event.kind == "claimed")).all()
    ids = (claim.study_id, claim.job_id)
    assert [tuple(line[:2]) for line in told] == [
        ("planning claimed by cpu1", "cpu1"),
        ("analysis by brain's own claimed by cpu1", "cpu1"),
        ("analysis by brain's own claimed by 100% 'quoted', attempt 2 of 3", "100% 'quoted'"),
    ]
    assert [tuple(line[2:]) for line in told[1:]] == [ids, ids]


def test_connection_that_a_restarted_server_ended_costs_no_attempt(postgres_life, postgres_url) -> None:
    db = postgres_life.db
    claim = postgres_life.analysing()
    end_backend(postgres_url, backend_of(db))
    assert postgres_life.commit(claim)
    postgres_life.whole("1.2.2")
    end_backend(postgres_url, backend_of(db))
    assert postgres_life.claim().attempts == 1


def test_connection_that_was_not_used_for_a_while_is_asked_before_it_is_used(
    postgres_life, monkeypatch
) -> None:
    db = postgres_life.db
    with sent_by(db) as at_once:
        jobs.show_job(db, 1)
    monkeypatch.setattr("db.postgres.ASKED_AFTER_SECONDS", 0.0)
    with sent_by(db) as later:
        jobs.show_job(db, 1)
    assert len(later) == len(at_once) + 1


def test_server_that_goes_away_within_a_transaction_is_unavailable_and_changes_nothing(
    postgres_life, postgres_url
) -> None:
    db = postgres_life.db
    claim = postgres_life.analysing()

    def end_without_a_server() -> None:
        with db.write() as conn:
            study = studies.end_claim(
                conn, JOBS, claim.job_id, claim.fence, "finish", study_id=claim.study_id, outcome="analysed"
            )
            assert study is not None
            driver: Any = conn.connection.driver_connection
            end_backend(postgres_url, driver.info.backend_pid)
            studies.settle_study(conn, study, claim.revision)

    with pytest.raises(DatabaseUnavailable, match="the database does not answer"):
        end_without_a_server()
    job = jobs.show_job(db, claim.job_id)
    assert job is not None
    assert job.state == "running"
    assert postgres_life.commit(claim)


def somebody_waits_for_a_lock(db: Database) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with db.read() as conn:  # within one transaction the answer would stay the same
        return bool(conn.exec_driver_sql(query).scalar_one())


def test_of_two_last_jobs_that_end_at_once_the_second_finishes_the_study(postgres_life, postgres_url) -> None:
    """The second waits for the study's lock in a statement that began before the first committed."""
    db = postgres_life.db
    first = postgres_life.analysing("1.2.1", "brain", "breast")
    second = postgres_life.claim()
    other = threading.Thread(target=lambda: postgres_life.commit(second, kinds=()))
    with db.write() as conn:
        study = studies.end_claim(
            conn, JOBS, first.job_id, first.fence, "finish", study_id=first.study_id, outcome="analysed"
        )
        assert study is not None
        other.start()
        while not somebody_waits_for_a_lock(db):
            pass
        studies.settle_study(conn, study, first.revision)
    other.join()
    assert postgres_life.study().state == "done"


def test_claims_walk_their_indexes_in_a_plan_made_for_any_parameter(postgres_life) -> None:
    db = postgres_life.db
    study = postgres_life.receive()
    row = {
        "kind": "analyse",
        "study_id": study.id,
        "revision": 1,
        "state": "queued",
        "priority": 0,
        "attempts": 0,
        "attempts_max": 3,
        "fence": 0,
        "parameters": {},
        "created_at": 0.0,
    }
    with db.write() as conn:
        conn.execute(sa.insert(tables.JOB), [{**row, "model": f"model{n}"} for n in range(4000)])
        conn.exec_driver_sql("ANALYZE job")
        conn.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
    for _ in range(10):
        postgres_life.claim()
    with db.read() as conn:
        name, parameters = conn.exec_driver_sql(
            "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements "
            "WHERE statement LIKE 'WITH claimed AS%%' AND generic_plans > 0"
        ).one()
        nulls = ", ".join(["NULL"] * parameters)
        plan = "\n".join(conn.exec_driver_sql(f'EXPLAIN (COSTS OFF) EXECUTE "{name}" ({nulls})').scalars())
    assert "ix_job_ready" in plan
    assert "ix_job_waiting" in plan
    assert "Seq Scan on job" not in plan
