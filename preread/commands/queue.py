"""`preread queue`: what runs, waits or is parked; retry, cancel, drop.

Jobs are written j12 and deliveries d7, so that one word names either.
"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preread.commands.options import Config, Json, fail, print_json, print_table, wrong_use
from preread.commands.rows import opened

if TYPE_CHECKING:
    from db.engine import Database
    from db.records import JobRecord
    from db.views import ParkedDelivery, QueueView

JOB, DELIVERY = "j", "d"

Things = Annotated[
    list[str] | None, typer.Argument(metavar="[j12|d7]...", help="Jobs (j12) or deliveries (d7).")
]
app = typer.Typer(no_args_is_help=True, help="Jobs and deliveries.")


@app.command("list")
def list_queue(config: Config = None, as_json: Json = False) -> None:
    """List what runs, what waits, what failed, and deliveries parked for a person."""
    from db.worklist import queue

    with opened(config) as database:
        view = queue(database)
    if as_json:
        print_json(asdict(view))
        return
    for title, columns, rows, empty in _parts(view):
        sys.stdout.write(f"{title}\n")
        print_table(columns, rows, empty=f"  {empty}")
        sys.stdout.write("\n")


@app.command()
def show(
    thing: Annotated[str, typer.Argument(metavar="j12|d7", help="A job (j12) or a delivery (d7).")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show one job or delivery with everything the rows say."""
    from db.jobs import show_job
    from db.worklist import queue

    letter, number = _parsed(thing)
    with opened(config) as database:
        record: Any = None
        if letter == JOB:
            record = show_job(database, number)
        else:
            view = queue(database)
            here = (item for item in (*view.parked, *view.sending) if item.delivery.id == number)
            record = next(here, None)
    if record is None:
        raise fail(f"there is no {thing} in the queue. See `preread queue list` and `preread studies show`.")
    if as_json:
        print_json(asdict(record))
        return
    print_table(("what", "value"), [(name, value) for name, value in asdict(record).items()], empty="nothing")


@app.command()
def retry(
    things: Things = None,
    parked: Annotated[bool, typer.Option("--parked", help="Every parked delivery.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Every failed job.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Queue failed jobs or parked deliveries again, with all their tries."""
    from db import requests
    from db.worklist import queue

    chosen = [_parsed(thing) for thing in things or []]
    if not (chosen or parked or failed):
        raise wrong_use("name jobs or deliveries, or give --parked or --failed")
    with opened(config) as database:
        if parked or failed:
            view = queue(database)
            chosen += [(DELIVERY, item.delivery.id) for item in view.parked] if parked else []
            chosen += [(JOB, job.id) for job in view.failed] if failed else []
        done = [
            (
                letter,
                number,
                _change(database, letter, number, job=requests.retry, delivery=requests.retry_delivery),
            )
            for letter, number in chosen
        ]
    _tell(done, "queued again", "is not failed, cancelled or parked", as_json)


@app.command()
def cancel(things: Things = None, config: Config = None, as_json: Json = False) -> None:
    """Cancel jobs that wait or run."""
    from db import requests

    chosen = _some(things, only=JOB, instead="drop")
    with opened(config) as database:
        done = [
            (letter, number, requests.cancel(database, number, source="command line"))
            for letter, number in chosen
        ]
    _tell(done, "cancelled", "had ended already", as_json)


@app.command()
def drop(things: Things = None, config: Config = None, as_json: Json = False) -> None:
    """Give deliveries up; the results stay here."""
    from db import requests

    chosen = _some(things, only=DELIVERY, instead="cancel")
    with opened(config) as database:
        done = [
            (letter, number, requests.drop_delivery(database, number, source="command line"))
            for letter, number in chosen
        ]
    _tell(done, "dropped", "was delivered or dropped already", as_json)


def _change(database: "Database", letter: str, number: int, *, job: Any, delivery: Any) -> bool:
    change = job if letter == JOB else delivery
    return bool(change(database, number, source="command line"))


def _some(things: list[str] | None, *, only: str, instead: str) -> list[tuple[str, int]]:
    """What was named, at least one and all of the kind `only`; `instead` is the command for the others."""
    if not things:
        raise wrong_use("name at least one, as `preread queue list` shows it")
    chosen = [_parsed(thing) for thing in things]
    for letter, number in chosen:
        if letter != only:
            raise wrong_use(f"for {letter}{number} there is `preread queue {instead}`")
    return chosen


def _parsed(thing: str) -> tuple[str, int]:
    letter, number = thing[:1], thing[1:]
    if letter not in (JOB, DELIVERY) or not number.isdecimal():
        raise wrong_use(f"{thing!r} is neither a job (j12) nor a delivery (d7)")
    return letter, int(number)


def _tell(done: list[tuple[str, int, bool]], word: str, otherwise: str, as_json: bool) -> None:
    if as_json:
        print_json({f"{letter}{number}": changed for letter, number, changed in done})
    else:
        for letter, number, changed in done:
            sys.stdout.write(f"{letter}{number}: {word if changed else otherwise}\n")
    if not all(changed for _, _, changed in done):
        raise typer.Exit(1)


def _parts(view: "QueueView") -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]], str]]:
    jobs = ("job", "kind", "model", "study", "state", "stage", "worker", "attempts", "since or reason")
    deliveries = ("delivery", "kind", "to", "study", "state", "tries", "last answer")
    return [
        ("Running", jobs, [_job(job) for job in view.running], "nothing runs"),
        (f"Waiting ({view.waiting_count})", jobs, [_job(job) for job in view.waiting], "nothing waits"),
        ("Failed", jobs, [_job(job) for job in view.failed], "nothing failed"),
        (f"On their way ({view.sending_count})", deliveries, [_sent(d) for d in view.sending], "none"),
        ("Parked, retry with `preread queue retry`", deliveries, [_sent(d) for d in view.parked], "none"),
        (
            "Workers",
            ("worker", "host", "device", "stage", "seen"),
            [(w.name, w.host, w.device, w.stage, w.seen_at) for w in view.workers],
            "no worker runs: start `preread serve` or `preread worker`",
        ),
    ]


def _job(job: "JobRecord") -> tuple[Any, ...]:
    why = job.error or job.started_at or job.run_after
    name = f"{JOB}{job.id}"
    return (name, job.kind, job.model, job.study_uid, job.state, job.stage, job.worker, job.attempts, why)


def _sent(item: "ParkedDelivery") -> tuple[Any, ...]:
    delivery = item.delivery
    name = f"{DELIVERY}{delivery.id}"
    last = (delivery.state, delivery.attempts, delivery.last_error)
    return (name, item.kind, delivery.destination, item.study_uid, *last)
