"""Analyses that start while their study still receives, and what the plan of the whole study makes of them.

An early plan is a job of kind "plan" with {"early": {"whole": [Series UIDs], "upto": instance id}}: which
series are whole, and the last instance it may look at, so that a repeat of the job sees the same. What it
leads to are ordinary analyses of the revision that still receives, with "early": {"upto": ...} beside their
series. When the study is whole its plan chooses anew, from everything. What was started early stands if the
plan would start the same now (`stands`); else it becomes a result of an older revision, as if a late image
had come: the study is planned once more as its next revision, whose results name the early ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from db import rows, tables
from db.claiming import JOBS
from db.closing import enqueue_plan
from db.engine import Database, hint_on_commit, now_in
from db.enqueueing import enqueue
from db.records import Claim
from db.states import next_state
from db.studies import PLAN_AHEAD, end_claim, open_revision
from db.timeline import note

STUDY, SERIES, INSTANCE, JOB = tables.STUDY, tables.SERIES, tables.INSTANCE, tables.JOB

Analyses = Sequence[tuple[str, Mapping[str, Any]]]
"""(model, parameters) of each; the parameters name its "series"."""


def stands(started: Mapping[str, Any], wanted: Mapping[str, Any] | None, newest: int) -> bool:
    """PURE: whether an analysis started early is what the plan of the whole study wants.

    Parameters
    ----------
    started : parameters of the early analysis
    wanted : those the plan has for the same model; None: the model is not wanted any more
    newest : id of the last image that came in the series of `started`
    """
    if wanted is None or list(started["series"]) != list(wanted["series"]):
        return False
    return newest <= int(started["early"]["upto"])


def queue_early_plan(
    db: Database,
    study_id: int,
    revision: int,
    series_uid: str,
    *,
    whole: Mapping[str, int],
    because: str,
    source: str,
    attempts_max: int = 3,
) -> bool:
    """Have a worker see whether a series that became whole is what a model waits for; once for each series.

    Returns False when nothing was queued: the study was closed, the series had its plan, or more came.

    Parameters
    ----------
    whole : instances held of every series of the study that is provably whole, with `series_uid`
    because, source : the proof for people, and whose it is
    """
    with db.write() as conn:
        query = sa.select(STUDY).where(STUDY.c.id == study_id).with_for_update()
        study = conn.execute(query).mappings().first()
        if study is None or study["state"] != "receiving" or study["revision"] != revision:
            return False
        counts = sa.select(SERIES.c.series_uid, SERIES.c.instances).where(SERIES.c.study_id == study_id)
        held = {row.series_uid: row.instances for row in conn.execute(counts)}
        if any(held.get(uid) != number for uid, number in whole.items()):
            return False
        key = sa.and_(JOB.c.study_id == study_id, JOB.c.revision == revision, JOB.c.model == series_uid)
        if conn.execute(sa.select(JOB.c.id).where(key, JOB.c.kind == "plan")).first() is not None:
            return False
        upto = conn.execute(sa.select(sa.func.max(INSTANCE.c.id)).where(INSTANCE.c.study_id == study_id))
        job_id = enqueue(
            conn,
            "plan",
            study_id,
            revision,
            series_uid,
            priority=study["priority"] + PLAN_AHEAD,
            parameters={"early": {"whole": sorted(whole), "upto": upto.scalar_one()}},
            attempts_max=attempts_max,
        )
        text = f"whole while the study still receives: {because}"
        note(conn, study_id=study_id, job_id=job_id, kind="series_whole", text=text, source=source)
        hint_on_commit(conn, "studies")
    return True


def finish_early_plan(db: Database, claim: Claim, analyse: Sequence[tuple[str, str]]) -> bool:
    """Finish an early plan: queue the analysis of a series by a model for each of `analyse`.

    Nothing is queued for a study that was closed meanwhile, for a model that was started already, or for a
    series that got another instance: then the plan of the whole study decides. Returns False when the lease
    was lost: then nothing was written.
    """
    upto = int(claim.parameters["early"]["upto"])
    with db.write() as conn:
        ending = {"outcome": "planned", "stage": None, "error": None, "remedy": None}
        study = end_claim(conn, JOBS, claim.job_id, claim.fence, "finish", study_id=claim.study_id, **ending)
        if study is None:
            return False
        if study["revision"] != claim.revision or study["state"] != "receiving":
            return True
        started = {row["model"] for row in _early_analyses(conn, study["id"], claim.revision)}
        for model, series_uid in analyse:
            if model in started or _newest(conn, study["id"], [series_uid]) > upto:
                continue
            job_id = enqueue(
                conn,
                "analyse",
                study["id"],
                claim.revision,
                model,
                priority=study["priority"],
                parameters={"series": [series_uid], "early": {"upto": upto}},
                attempts_max=claim.attempts_max,
            )
            text = f"started early: queued for {model}, whose series is whole"
            note(conn, study_id=study["id"], job_id=job_id, kind="queued", text=text, source=claim.worker)
    return True


def is_begun_anew(conn: sa.Connection, study: rows.Row, claim: Claim, analyse: Analyses) -> bool:
    """Hold what was started early against the plan of the whole study, which is locked.

    What waits in the queue is changed to what the plan wants. Returns True when something that ran (or runs)
    is not: then the next revision of the study was opened, with a plan of its own.
    """
    wanted = dict(analyse)
    early = _early_analyses(conn, study["id"], claim.revision)
    if not early:
        return False
    waiting = _adjust_waiting(conn, study, claim, [row["id"] for row in early], wanted)
    outdated = [
        row["model"]
        for row in early
        if row["id"] not in waiting
        and row["state"] != "cancelled"  # by a person, who need not say it twice
        and not stands(
            row["parameters"],
            wanted.get(row["model"]),
            _newest(conn, study["id"], row["parameters"]["series"]),
        )
    ]
    if not outdated:
        return False
    values = {"whole_at": study["whole_at"], "partial": study["partial"]}
    revision = open_revision(conn, study, "asked_again", **values)
    text = (
        f"{', '.join(outdated)} started early on other images than the whole study has for it: revision "
        f"{revision} begins, its results will name the earlier ones"
    )
    note(conn, study_id=study["id"], job_id=claim.job_id, kind="late", text=text, source=claim.worker)
    parameters = {name: value for name, value in claim.parameters.items() if name in ("partial", "how")}
    enqueue_plan(conn, study, revision, parameters, claim.attempts_max)
    return True


def _adjust_waiting(
    conn: sa.Connection,
    study: rows.Row,
    claim: Claim,
    ids: Sequence[int],
    wanted: Mapping[str, Mapping[str, Any]],
) -> set[int]:
    """Give early analyses that nobody claimed what the plan wants; returns their ids.

    One that is being claimed at this moment is skipped, not waited for: its claimer waits for our study.
    """
    query = sa.select(JOB).where(JOB.c.id.in_(ids), JOB.c.state == "queued").with_for_update(skip_locked=True)
    waiting = conn.execute(query).mappings().all()
    for row in waiting:
        values: dict[str, Any] = {"parameters": dict(wanted.get(row["model"], {}))}
        if row["model"] not in wanted:
            values = {
                "state": next_state("job", "queued", "supersede"),
                "reason_code": "SUPERSEDED",
                "reason": "The plan of the whole study does not want it any more.",
                "done_at": now_in(conn),
            }
            text = f"analysis by {row['model']} will not run: the plan of the whole study does not want it"
            note(
                conn,
                study_id=study["id"],
                job_id=row["id"],
                kind="superseded",
                text=text,
                source=claim.worker,
            )
        conn.execute(sa.update(JOB).where(JOB.c.id == row["id"]).values(**values))
    return {row["id"] for row in waiting}


def _early_analyses(conn: sa.Connection, study_id: int, revision: int) -> list[rows.Row]:
    query = sa.select(JOB).where(JOB.c.study_id == study_id, JOB.c.revision == revision)
    found = conn.execute(query.where(JOB.c.kind == "analyse").order_by(JOB.c.id)).mappings()
    return [row for row in found if "early" in row["parameters"]]


def _newest(conn: sa.Connection, study_id: int, series_uids: Sequence[str]) -> int:
    """Id of the last image of some series; 0 without any."""
    query = (
        sa.select(sa.func.max(INSTANCE.c.id))
        .join_from(INSTANCE, SERIES)
        .where(SERIES.c.study_id == study_id, SERIES.c.series_uid.in_(series_uids))
        .where(INSTANCE.c.is_image, ~INSTANCE.c.own)
    )
    return int(conn.execute(query).scalar() or 0)
