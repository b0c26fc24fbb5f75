"""`preread studies`: what came in, what it ended as and why; analyse one again."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from preread.commands.options import (
    EXIT_OK,
    Config,
    Json,
    fail,
    print_json,
    print_table,
    shown,
)
from preread.commands.rows import opened

NOTHING = (
    "No study. Send one: `preread send FOLDER --to AE@host:port`, or see who may call: `preread doctor`."
)

if TYPE_CHECKING:
    from db.engine import Database
    from db.records import DeliveryRecord, JobRecord
    from db.views import StudyView

Only = Literal["attention", "findings", "none", "not_analysed", "failed", "running", "all"]
StudyUid = Annotated[str, typer.Argument(metavar="STUDY_UID", help="Study Instance UID.")]
app = typer.Typer(no_args_is_help=True, help="Studies and what became of them.")


@app.command("list")
def list_studies(
    only: Annotated[Only, typer.Option(help="Only these.")] = "all",
    search: Annotated[str | None, typer.Option(help="Part of accession, id, name or description.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="Lines at most.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List studies, urgent and newest first."""
    from db.worklist import studies

    with opened(config) as database:
        found = studies(database, chip=only, search=search, limit=limit)
    if as_json:
        print_json([asdict(row) for row in found])
        return
    print_table(
        ("received", "study", "modality", "images", "state", "outcome", "finding or reason", "seconds"),
        [
            (
                row.study.last_received_at,
                row.study.study_uid,
                "/".join(row.study.modalities),
                row.study.instances,
                row.stage or row.study.state,
                row.study.outcome,
                row.headline or row.study.reason,
                row.seconds,
            )
            for row in found
        ],
        empty=NOTHING,
    )


@app.command()
def show(study_uid: StudyUid, config: Config = None, as_json: Json = False) -> None:
    """Show one study: series taken or refused, jobs, results, deliveries and the timeline."""
    with opened(config) as database:
        view = _view(database, study_uid)
    if as_json:
        print_json(asdict(view))
        return
    study = view.study
    ending = f"{study.outcome}: {study.reason or ''}" if study.outcome else study.state
    sys.stdout.write(f"{study.study_uid} revision {study.revision}: {ending}\n")
    for title, columns, rows in _parts(view):
        sys.stdout.write(f"\n{title}\n")
        print_table(columns, rows, empty="  none")


@app.command()
def requeue(study_uid: StudyUid, config: Config = None, as_json: Json = False) -> None:
    """Analyse a study again, as a new revision of the same images."""
    from db.closing import requeue_study

    with opened(config) as database:
        _view(database, study_uid)
        revision = requeue_study(database, study_uid, source="command line")
    if revision is None:
        raise fail(f"{study_uid} still receives, or holds no image. See `preread studies show {study_uid}`.")
    if as_json:
        print_json({"study_uid": study_uid, "revision": revision})
    else:
        sys.stdout.write(f"{study_uid}: queued as revision {revision}\n")
    raise typer.Exit(EXIT_OK)


@app.command()
def reasons(as_json: Json = False) -> None:
    """List the coded reasons of *not analysed*, with what each means and its remedy."""
    from pipeline.reading.refusals import REASONS

    if as_json:
        print_json(
            [{"code": c, "meaning": r.meaning, "remedy": r.remedy} for c, r in sorted(REASONS.items())]
        )
        return
    print_table(
        ("code", "meaning", "remedy"),
        [(code, reason.meaning, reason.remedy) for code, reason in sorted(REASONS.items())],
        empty="none",
    )


def _view(database: "Database", study_uid: str) -> "StudyView":
    from db.worklist import study

    view = study(database, study_uid)
    if view is None:
        raise fail(f"no study {shown(study_uid)} is here. See `preread studies list`.")
    return view


def _parts(view: "StudyView") -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    kinds = {result.id: result.kind for result in view.results}
    return [
        (
            "Series",
            ("series", "modality", "description", "images", "ours"),
            [(s.series_uid, s.modality, s.description, s.instances, s.own or "") for s in view.series],
        ),
        (
            "Why each series was taken or not",
            ("revision", "model", "series", "reason"),
            [(s.revision, s.model, s.series_uid, s.sentence) for s in view.selections],
        ),
        (
            "Jobs",
            ("job", "kind", "revision", "model", "state", "attempts", "outcome", "reason or error", "remedy"),
            [_job(job) for job in view.jobs],
        ),
        (
            "Results",
            ("kind", "revision", "model", "SOP instance", "bytes"),
            [(r.kind, r.revision, r.model, r.sop_uid, r.bytes) for r in view.results],
        ),
        (
            "Deliveries",
            ("delivery", "kind", "to", "state", "tries", "last answer", "delivered"),
            [_delivery(delivery, kinds.get(delivery.result_id)) for delivery in view.deliveries],
        ),
        (
            "Conflicts: other bytes under a UID that was there already",
            ("SOP instance", "from", "address", "received"),
            [(c.sop_uid, c.calling_ae, c.address, c.received_at) for c in view.conflicts],
        ),
        ("Timeline", ("at", "event", "by"), [(e.at, e.text, e.source) for e in view.events]),
    ]


def _job(job: "JobRecord") -> tuple[Any, ...]:
    why = job.error or job.reason
    what = (f"j{job.id}", job.kind, job.revision, job.model, job.state, job.attempts)
    return (*what, job.outcome, why, job.remedy)


def _delivery(delivery: "DeliveryRecord", kind: str | None) -> tuple[Any, ...]:
    where = (f"d{delivery.id}", kind, delivery.destination)
    return (*where, delivery.state, delivery.attempts, delivery.last_error, delivery.delivered_at)
