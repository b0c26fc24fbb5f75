"""What the databases guarantee: durable settings, one writer after another, hints, trouble by name."""

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.errors import PrereadError
from db import jobs, tables, timeline, workers
from db.engine import Database, DatabaseUnavailable
from db.locking import WriterQueue
from db.records import WorkerRecord

Opener = Callable[..., Database]


def test_sqlite_commits_survive_power_loss_and_foreign_keys_hold(sqlite_url, open_database: Opener) -> None:
    with open_database(sqlite_url).read() as conn:
        settings = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_sqlite_file_is_for_this_user_only(tmp_path: Path, open_database: Opener) -> None:
    open_database(f"sqlite:///{tmp_path / 'new' / 'preread.db'}").migrate()
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "new").glob("preread.db*")} == {0}


def test_second_database_of_a_process_leaves_the_locks_of_the_first(
    sqlite_url, open_database: Opener
) -> None:
    """Else another process that leaves deletes the log, and what others write is never seen."""
    first = open_database(sqlite_url)
    first.migrate()
    open_database(sqlite_url)
    program = (
        "import sys; from db.engine import Database; from db.timeline import note; "
        f"other = Database.open({sqlite_url!r}); note(other, kind='test', text=sys.argv[1], source='other'); "
        "other.close()"
    )
    for text in ("one", "two"):
        subprocess.run([sys.executable, "-c", program, text], check=True)
        assert timeline.recent_events(first)[0].text == text


def test_postgres_acknowledges_only_what_is_flushed(postgres_url, open_database: Opener) -> None:
    with open_database(postgres_url).read() as conn:
        assert conn.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert conn.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


def test_process_that_hangs_inside_a_transaction_does_not_hold_a_study_for_ever(
    postgres_url, open_database: Opener
) -> None:
    with open_database(postgres_url).read() as conn:
        assert conn.exec_driver_sql("SHOW lock_timeout").scalar() == "30s"
        assert conn.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == "1min"


def test_exception_rolls_the_transaction_back(db, life) -> None:
    life.receive()

    def write_and_break() -> None:
        with db.write() as conn:
            conn.execute(sa.update(tables.STUDY).values(priority=9))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        write_and_break()
    assert life.study().priority == 0


def test_reader_is_never_blocked_by_a_writer(db, life) -> None:
    life.receive()
    with db.write() as conn:
        conn.execute(sa.update(tables.STUDY).values(priority=9))
        assert life.study().priority == 0
    assert life.study().priority == 9


def test_database_that_is_away_is_named_without_its_password(open_database: Opener, tmp_path: Path) -> None:
    database = open_database(f"postgresql://preread:secret@/nothing?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="the database does not answer") as caught, database.read():
        pass
    assert "secret" not in str(caught.value)
    database.notify("jobs")  # a hint, so not worth an error
    assert not database.wait_for("jobs", 0.01)


def test_sqlite_locked_by_a_stranger_is_unavailable_not_a_crash(
    sqlite_url, open_database: Opener, monkeypatch
) -> None:
    monkeypatch.setattr("db.engine.BUSY_MILLISECONDS", 10)
    ours, theirs = open_database(sqlite_url), sa.create_engine(sqlite_url, isolation_level="AUTOCOMMIT")
    with theirs.connect() as stranger:
        stranger.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked"), ours.write():
            pass
        stranger.exec_driver_sql("ROLLBACK")
    theirs.dispose()
    with ours.write():
        pass


def test_error_texts_show_no_parameters(db, received) -> None:
    from db import intake

    item = received(PatientName="SECRET^NAME")
    intake.record_batch(db, [item], None)

    def insert_twice() -> None:
        with db.write() as conn:
            row = dict(conn.execute(sa.select(tables.STUDY)).mappings().one())
            conn.execute(sa.insert(tables.STUDY).values(row))

    with pytest.raises(sa.exc.IntegrityError) as caught:
        insert_twice()
    assert "SECRET" not in str(caught.value)


def test_unknown_kind_of_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PrereadError, match="Use sqlite:///path"):
        Database.open("mysql://x/y")
    with pytest.raises(PrereadError, match="Name a file"):
        Database.open("sqlite://")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DatabaseUnavailable, match="cannot open the database file"):
        Database.open(f"sqlite:///{blocked}/preread.db")


def test_forked_process_must_open_its_own(db) -> None:
    with db.read():
        pass
    child = os.fork()
    if child == 0:
        try:
            with db.read():
                os._exit(1)
        except PrereadError as error:
            os._exit(0 if "Open a Database in each process" in str(error) else 2)
        finally:
            os._exit(3)
    assert os.waitpid(child, 0)[1] == 0


def test_hint_reaches_a_waiter_in_another_process(db, database_url) -> None:
    code = (
        "import sys; from db.engine import Database; d = Database.open(sys.argv[1]); d.subscribe('jobs');"
        "print('ready', flush=True); print(d.wait_for('jobs', 60)); d.close()"
    )
    waiter = subprocess.Popen(
        [sys.executable, "-c", code, database_url], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "ready\n"
    db.notify("other")
    db.notify("jobs")
    assert waiter.communicate(timeout=60)[0] == "True\n"


def test_enqueue_hints_when_it_commits_and_not_when_it_fails(db, life) -> None:
    study = life.receive()
    db.subscribe("jobs")
    assert not db.wait_for("jobs", 0)

    def enqueue_and_break() -> None:
        with db.write() as conn:
            jobs.enqueue(conn, "plan", study.id, 1, None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        enqueue_and_break()
    assert not db.wait_for("jobs", 0)
    jobs.enqueue(db, "plan", study.id, 1, None)
    jobs.enqueue(db, "analyse", study.id, 1, "brain")
    assert db.wait_for("jobs", 30)
    assert not db.wait_for("jobs", 0)


def test_hint_socket_of_a_killed_process_is_cleared_away(sqlite_url, open_database: Opener) -> None:
    database = open_database(sqlite_url)
    code = (
        "import os, sys; from db.engine import Database; d = Database.open(sys.argv[1]);"
        "d.subscribe('jobs'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, sqlite_url], check=False, timeout=60)
    folder = Path(sqlite_url.removeprefix("sqlite:///")).parent / "run" / "hints"
    assert len(list(folder.iterdir())) == 1
    database.notify("jobs")
    assert list(folder.iterdir()) == []


def test_hints_work_however_deep_the_state_folder_lies(tmp_path: Path, open_database: Opener) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name"] * 6)
    database = open_database(f"sqlite:///{deep / 'preread.db'}")
    database.subscribe("jobs")
    database.notify("jobs")
    assert database.wait_for("jobs", 30)


def test_writers_are_served_in_the_order_they_came(tmp_path: Path) -> None:
    """The one that writes and at once wants to write again does not overtake the one that waits."""
    queue, order = WriterQueue(tmp_path / "x.db"), []
    holds, waits = threading.Event(), threading.Event()

    def second() -> None:
        holds.wait()
        waits.set()
        with queue.place():
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with queue.place():
        order.append("first")
        holds.set()
        waits.wait()
        _until_waited_for(tmp_path / "x.db.turnstile")
    with queue.place():
        order.append("first again")
    thread.join()
    assert order == ["first", "second", "first again"]


def _until_waited_for(turnstile: Path) -> None:
    """Until another writer stands in the turnstile."""
    with turnstile.open("rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(file, fcntl.LOCK_UN)


def test_place_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from db.locking import WriterQueue\n"
        "with WriterQueue(Path(sys.argv[1])).place(): os._exit(9)"
    )
    path = tmp_path / "x.db"
    assert subprocess.run([sys.executable, "-c", code, path], check=False, timeout=60).returncode == 9
    with WriterQueue(path).place():
        pass


def test_heartbeat_replaces_the_one_before_and_silent_workers_drop_out(db, clock) -> None:
    workers.beat(db, WorkerRecord("gpu1", 7, "host", "cuda:0", "loading", None, 10, ("brain",)))
    clock.pass_seconds(5)
    workers.beat(db, WorkerRecord("gpu1", 7, "host", "cuda:0", "predicting", 3, 20, ("brain", "breast")))
    workers.beat(db, WorkerRecord("cpu1", 8, "host", "cpu"))
    clock.pass_seconds(5)
    workers.beat(db, WorkerRecord("cpu1", 8, "host", "cpu"))
    cpu, gpu = workers.list_workers(db)
    assert (gpu.stage, gpu.job_id, gpu.memory_bytes, gpu.models) == ("predicting", 3, 20, ("brain", "breast"))
    assert gpu.seen_at is not None
    assert gpu.seen_at.timestamp() == clock.now - 5
    assert [w.name for w in workers.list_workers(db, seen_within_seconds=4)] == ["cpu1"]
    workers.forget_worker(db, "gpu1")
    assert [w.name for w in workers.list_workers(db)] == [cpu.name]


def test_timeline_tells_once_what_is_told_once(db, life) -> None:
    study = life.receive()
    for _ in range(2):
        timeline.note(db, study_id=study.id, kind="x", text="again and again", source="me")
        timeline.note(db, study_id=study.id, kind="y", text="just once", source="me", once="y")
    assert [event.kind for event in timeline.events_of(db, study.id)] == ["received", "x", "y", "x"]
    timeline.note(db, kind="node", text="started", source="preread")
    assert [event.kind for event in timeline.recent_events(db, limit=2)] == ["node", "x"]
