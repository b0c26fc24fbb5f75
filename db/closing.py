"""A study that still receives, closing it, asking for it again: each whole revision gets one plan job."""

from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database, hint_on_commit, now_in
from db.enqueueing import enqueue
from db.records import ReceivingSeries, ReceivingStudy
from db.states import next_state, states_before
from db.studies import PLAN_AHEAD, locked_study_by_uid, move_study, open_revision
from db.timeline import note

STUDY, SERIES, INSTANCE, JOB = tables.STUDY, tables.SERIES, tables.INSTANCE, tables.JOB


def receiving_studies(db: Database) -> list[ReceivingStudy]:
    """All studies that still receive, with what completeness needs; our own results are left out."""
    receiving = STUDY.c.state == sa.literal("receiving", literal_execute=True)
    with db.read() as conn:
        studies = conn.execute(sa.select(STUDY).where(receiving).order_by(STUDY.c.id)).mappings().all()
        series: dict[int, list[ReceivingSeries]] = defaultdict(list)
        query = sa.select(SERIES).join_from(SERIES, STUDY).where(receiving, ~SERIES.c.own)
        for row in conn.execute(query.order_by(SERIES.c.id)).mappings():
            series[row["study_id"]].append(
                ReceivingSeries(row["series_uid"], row["modality"], row["instances"], row["last_received_at"])
            )
        began_at = _late_beginnings(conn)
    return [
        ReceivingStudy(
            study=rows.study(study),
            series=tuple(series[study["id"]]),
            source_ae=study["source_ae"],
            first_received_at=began_at.get(study["id"], study["first_received_at"]),
            last_received_at=study["last_received_at"],
        )
        for study in studies
    ]


def _late_beginnings(conn: sa.Connection) -> dict[int, float]:
    """When the first instance of each later revision that receives came: its deadline runs from there."""
    query = (
        sa.select(INSTANCE.c.study_id, sa.func.min(INSTANCE.c.received_at).label("began_at"))
        .join_from(INSTANCE, STUDY)
        .where(STUDY.c.state == sa.literal("receiving", literal_execute=True), STUDY.c.revision > 1)
        .where(INSTANCE.c.revision == STUDY.c.revision, ~INSTANCE.c.own)
        .group_by(INSTANCE.c.study_id)
    )
    return {row.study_id: row.began_at for row in conn.execute(query)}


def close_study(
    db: Database,
    study_id: int,
    revision: int,
    *,
    how: str,
    partial: bool,
    evidence_text: str,
    attempts_max: int = 3,
) -> bool:
    """Declare a revision of a study whole and queue its plan, in one commit.

    Returns False when there is nothing to close: it was closed already, or another image opened a revision.

    Parameters
    ----------
    how : what decided, one word: "quiet", "find", "mpps", "ian", "ups", "timeout"
    partial : closed although images are known or thought to be missing
    evidence_text : the evidence for people, for example "no new image for 30 s, 24 images"
    """
    with db.write() as conn:
        query = sa.select(STUDY).where(STUDY.c.id == study_id).with_for_update()
        study = conn.execute(query).mappings().first()
        if study is None or study["state"] != "receiving" or study["revision"] != revision:
            return False
        now = now_in(conn)
        move_study(conn, study, "closed", whole_at=now, partial=partial)
        words = "closed as partial" if partial else "whole"
        note(conn, study_id=study_id, kind="whole", text=f"{words}: {evidence_text}", source=how)
        _cancel_early_plans(conn, study_id, now)
        enqueue_plan(conn, study, revision, {"partial": partial, "how": how}, attempts_max)
    return True


def requeue_study(
    db: Database, study_uid: str, *, source: str = "person", attempts_max: int = 3
) -> int | None:
    """Analyse a study again as its next revision, of the same images; returns the revision.

    A new revision, not the old job once more: its results have UIDs of their own and name the older ones as
    predecessors, as for a late image. None: there is no such study, it still receives, or it has no images.
    """
    with db.write() as conn:
        study = locked_study_by_uid(conn, study_uid)
        if study is None or study["state"] == "receiving" or study["revision"] == 0:
            return None
        now, partial = now_in(conn), study["partial"]
        revision = open_revision(conn, study, "asked_again", whole_at=now, partial=partial)
        text = f"asked again by {source}: revision {revision} of the study, of the same images"
        note(conn, study_id=study["id"], kind="asked_again", text=text, source=source)
        enqueue_plan(conn, study, revision, {"partial": study["partial"], "how": source}, attempts_max)
    return revision


def _cancel_early_plans(conn: sa.Connection, study_id: int, now: float) -> None:
    """The plan of the whole study replaces those that wait; one that is being claimed ends by itself."""
    waiting = (
        sa.select(JOB.c.id)
        .where(JOB.c.study_id == study_id, JOB.c.kind == "plan", JOB.c.model != "")
        .where(JOB.c.state.in_(states_before("job", "supersede")))
        .with_for_update(skip_locked=True)
    )
    ids = conn.execute(waiting).scalars().all()
    if ids:
        ending = {"reason_code": "SUPERSEDED", "reason": "The study was whole before.", "done_at": now}
        state = next_state("job", "queued", "supersede")
        conn.execute(sa.update(JOB).where(JOB.c.id.in_(ids)).values(state=state, **ending))


def enqueue_plan(
    conn: sa.Connection, study: rows.Row, revision: int, parameters: dict[str, Any], attempts_max: int
) -> None:
    """Queue the plan of a locked study's revision, before analyses of its priority."""
    job_id = enqueue(
        conn,
        "plan",
        study["id"],
        revision,
        None,
        priority=study["priority"] + PLAN_AHEAD,
        parameters=parameters,
        attempts_max=attempts_max,
    )
    note(
        conn, study_id=study["id"], job_id=job_id, kind="queued", text="queued for planning", source="preread"
    )
    hint_on_commit(conn, "studies")
