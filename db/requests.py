"""What a person asks for on the page or the command line: cancel, retry, drop, send again, another priority.

Every request leaves a line in the study's timeline with who asked.
"""

from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database, hint_on_commit, now_in
from db.states import IllegalTransition, next_state, states_before
from db.studies import PLAN_AHEAD, locked_study, locked_study_by_uid, resume_study, settle_study
from db.timeline import note

JOB, DELIVERY, RESULT, STUDY = tables.JOB, tables.DELIVERY, tables.RESULT, tables.STUDY


def cancel(db: Database, job_id: int, *, source: str = "person") -> bool:
    """Cancel a queued or running job; False: it had ended already.

    A running job stops when its worker extends the lease; what it made until then is dropped.

    Raises
    ------
    IllegalTransition
        There is no such job.
    """
    return _change_job(db, job_id, "cancel", source=source)


def retry(db: Database, job_id: int, *, source: str = "person") -> bool:
    """Queue a failed or cancelled job again, with all its attempts; False: it is in no such state.

    Raises
    ------
    IllegalTransition
        There is no such job, or a newer revision of the study replaced it.
    """
    return _change_job(db, job_id, "retry", source=source)


def _change_job(db: Database, job_id: int, event: Literal["cancel", "retry"], *, source: str) -> bool:
    with db.write() as conn:
        query = sa.select(JOB, rows.job_in_words(JOB).label("in_words")).where(JOB.c.id == job_id)
        row = conn.execute(query.with_for_update()).mappings().first()
        if row is None:
            raise IllegalTransition(f"there is no job {job_id}", remedy="See `preread queue list`.")
        if row["state"] not in states_before("job", event):
            return False
        study = locked_study(conn, row["study_id"])
        if event == "retry" and study["revision"] != row["revision"]:
            raise IllegalTransition(
                f"job {job_id} is of revision {row['revision']}; the study is at {study['revision']}",
                remedy="Retry the newer job, or ask for the study to be analysed again.",
            )
        values: dict[str, Any] = {"lease_until": None, "stage": None}
        if event == "cancel":
            values |= {"reason_code": "CANCELLED", "reason": "A person cancelled the job."}
            values |= {"done_at": now_in(conn)}
        else:
            values |= {"attempts": 0, "run_after": None, "worker": None, "done_at": None}
            values |= dict.fromkeys(("error", "remedy", "reason_code", "reason"))
        state = next_state("job", row["state"], event)
        conn.execute(sa.update(JOB).where(JOB.c.id == job_id).values(state=state, **values))
        done = {"cancel": "cancelled", "retry": "queued again"}[event]
        note(
            conn,
            study_id=study["id"],
            job_id=job_id,
            kind=event,
            text=f"{row['in_words']} {done}, asked by {source}",
            source=source,
        )
        if event == "cancel":
            settle_study(conn, study, row["revision"])
        else:
            if study["state"] != "receiving":  # else: a job that was started early
                resume_study(conn, study)
            hint_on_commit(conn, "jobs")
    return True


def retry_delivery(db: Database, delivery_id: int, *, source: str = "person") -> bool:
    """Send a parked, dropped or delivered object (again), with all tries; False: it is on its way already.

    Raises
    ------
    IllegalTransition
        There is no such delivery.
    """
    values = {"attempts": 0, "next_at": None, "worker": None, "delivered_at": None}
    return _change_delivery(db, delivery_id, "retry", source=source, values=values)


def drop_delivery(db: Database, delivery_id: int, *, source: str = "person") -> bool:
    """Give a delivery up; False: it was delivered or dropped already. Raises as `retry_delivery`."""
    return _change_delivery(db, delivery_id, "drop", source=source, values={"lease_until": None})


def _change_delivery(
    db: Database, delivery_id: int, event: Literal["retry", "drop"], *, source: str, values: Mapping[str, Any]
) -> bool:
    with db.write() as conn:
        query = sa.select(DELIVERY).where(DELIVERY.c.id == delivery_id).with_for_update()
        row = conn.execute(query).mappings().first()
        if row is None:
            raise IllegalTransition(f"there is no delivery {delivery_id}", remedy="See `preread queue list`.")
        if row["state"] not in states_before("delivery", event):
            return False
        state = next_state("delivery", row["state"], event)
        conn.execute(sa.update(DELIVERY).where(DELIVERY.c.id == delivery_id).values(state=state, **values))
        study = locked_study(conn, row["study_id"])
        revision = conn.execute(sa.select(JOB.c.revision).where(JOB.c.id == row["job_id"])).scalar_one()
        kind = conn.execute(sa.select(RESULT.c.kind).where(RESULT.c.id == row["result_id"])).scalar_one()
        doing = {"retry": "is sent again to", "drop": "will not be sent to"}[event]
        note(
            conn,
            study_id=study["id"],
            job_id=row["job_id"],
            kind=f"delivery_{event}",
            text=f"{kind} {doing} {row['destination']}, asked by {source}",
            source=source,
        )
        if event == "drop":
            settle_study(conn, study, revision)
        else:
            hint_on_commit(conn, "deliveries")
            if study["revision"] == revision and study["state"] != "receiving":
                resume_study(conn, study)
    return True


def send_again(db: Database, study_uid: str, *, source: str = "person") -> int:
    """Send every result of the current revision again to its destinations; returns how many are queued."""
    with db.read() as conn:
        query = (
            sa.select(DELIVERY.c.id)
            .join_from(DELIVERY, JOB)
            .join(tables.STUDY, tables.STUDY.c.id == JOB.c.study_id)
            .where(tables.STUDY.c.study_uid == study_uid, JOB.c.revision == tables.STUDY.c.revision)
            .order_by(DELIVERY.c.id)
        )
        ids = conn.execute(query).scalars().all()
    return sum(retry_delivery(db, delivery_id, source=source) for delivery_id in ids)


def set_priority(db: Database, study_uid: str, priority: int, *, source: str = "person") -> bool:
    """Change the priority of a study and of what waits for it; False: there is no such study.

    A job that is being claimed at this moment keeps its place: it runs anyway.
    """
    with db.write() as conn:
        study = locked_study_by_uid(conn, study_uid)
        if study is None:
            return False
        conn.execute(sa.update(STUDY).where(STUDY.c.id == study["id"]).values(priority=priority))
        for table in (JOB, DELIVERY):
            waiting = (
                sa.select(table.c.id)
                .where(table.c.study_id == study["id"], table.c.state == "queued")
                .with_for_update(skip_locked=True)
            )
            ids = conn.execute(waiting).scalars().all()
            value: Any = priority
            if table is JOB:
                value = sa.case((JOB.c.kind == "plan", priority + PLAN_AHEAD), else_=priority)
            conn.execute(sa.update(table).where(table.c.id.in_(ids)).values(priority=value))
        text = f"priority {study['priority']} became {priority}, asked by {source}"
        note(conn, study_id=study["id"], kind="priority", text=text, source=source)
    return True
