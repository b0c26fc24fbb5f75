"""Result objects and deliveries in one commit; claim and settle deliveries.

`findings` of a job is JSON for the page and the command line: {"lesions": [{"number", "volume_ml" |
"area_mm2" | "area_px", "long_axis_mm" | null, "short_axis_mm" | null, "score", "tracking_uid", "key_sop_uid",
"key_frame" | null}], "class": str | null, "scores": {...}, "series_uid", "notes": [...], "urgent": bool,
"unusual": bool, "headline": str}; of a model of structures also "structures": {"parts": [{"number", "label",
"found": bool, and of a found one size, score, tracking and key as of a lesion}], "totals": [{"label",
"volume_ml" | null}]}; with a heat map also "attention": {"class", "method", "caption",
"uid"}, the uid of a result of the kind HEAT.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from db import rows, tables
from db.claiming import DELIVERIES, JOBS, claim_first, release, still_held, wait_seconds
from db.engine import Database, hint_on_commit, now_in
from db.records import (
    Claim,
    DeliveryClaim,
    DeliveryRecord,
    NewDelivery,
    NewResult,
    ResultKind,
    ResultRecord,
)
from db.requests import drop_delivery, retry_delivery, send_again
from db.segments import use_segments
from db.studies import end_claim, settle_study
from db.timeline import Line

__all__ = [
    "claim_delivery",
    "commit_analysis",
    "deliveries_of",
    "drop_delivery",
    "extend_delivery",
    "give_back_delivery",
    "insert_results",
    "is_result_uid",
    "own_series_uids",
    "predecessors_of",
    "results_of",
    "retry_delivery",
    "send_again",
    "settle_delivery",
]

RESULT, DELIVERY, JOB = tables.RESULT, tables.DELIVERY, tables.JOB

DETAIL_LENGTH_MAX = 1000


def commit_analysis(
    db: Database,
    claim: Claim,
    *,
    outcome: Literal["analysed", "not_analysed"],
    reason_code: str | None,
    sentence: str | None,
    findings: Mapping[str, Any],
    results: Sequence[NewResult],
    deliveries: Sequence[NewDelivery],
    predecessors: Mapping[ResultKind, str] | None = None,
) -> bool:
    """Finish an analysis: results, deliveries, the job and its study in one commit.

    Returns False when the lease was lost: then nothing was written and another worker makes the same results.

    Parameters
    ----------
    reason_code, sentence : why the study was not analysed; both are needed then (no silence)
    findings : JSON as at the top of this file
    results : objects whose bytes are durable already, in the order the page shows them
    deliveries : destinations, by name of the peer, of objects in `results`
    predecessors : SOP Instance UID, by kind, of the result of the revision before
    """
    if outcome == "not_analysed" and not (reason_code and sentence):
        raise ValueError(f"job {claim.job_id} is not analysed without a code and a sentence that say why")
    with db.write() as conn:
        study = end_claim(
            conn,
            JOBS,
            claim.job_id,
            claim.fence,
            "finish",
            study_id=claim.study_id,
            outcome=outcome,
            reason_code=reason_code,
            reason=sentence,
            findings=dict(findings),
            stage=None,
            error=None,
            remedy=None,
        )
        if study is None:
            return False
        insert_results(conn, claim, results, deliveries, predecessors or {})
        kind = "results" if outcome == "analysed" else "refused"
        text = _ending(claim, outcome, sentence, findings, results)
        line = Line(kind, text, claim.worker, claim.study_id, claim.job_id)
        settle_study(conn, study, claim.revision, [line])
    return True


def _ending(
    claim: Claim,
    outcome: str,
    sentence: str | None,
    findings: Mapping[str, Any],
    results: Sequence[NewResult],
) -> str:
    if outcome == "not_analysed":
        return f"not analysed by {claim.model}: {sentence}"
    kinds = Counter(result.kind for result in results)
    objects = ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())
    headline = findings.get("headline") or "no headline"
    return f"results of {claim.model}: {headline} ({objects or 'no objects'})"


def insert_results(
    conn: sa.Connection,
    claim: Claim,
    results: Sequence[NewResult],
    deliveries: Sequence[NewDelivery],
    predecessors: Mapping[ResultKind, str],
) -> None:
    """Rows of results and of their deliveries, within the transaction that finishes the job."""
    if not results:
        return
    now = now_in(conn)
    ids: dict[str, int] = {}
    for result in results:
        location = result.location
        before = predecessors.get(result.kind)
        inserted = sa.insert(RESULT).values(
            job_id=claim.job_id,
            study_id=claim.study_id,
            revision=claim.revision,
            kind=result.kind,
            sop_uid=result.sop_uid,
            sop_class=result.sop_class,
            series_uid=result.series_uid,
            store=location.store,
            segment=location.segment,
            epoch=location.epoch,
            offset=location.offset,
            length=location.length,
            sha256=result.sha256,
            bytes=result.bytes,
            created_at=now,
            predecessor_sop_uid=before if before != result.sop_uid else None,
        )
        ids[result.sop_uid] = conn.execute(inserted.returning(RESULT.c.id)).scalar_one()
    use_segments(conn, [result.location for result in results], moves_mark=True)
    if deliveries:
        conn.execute(
            sa.insert(DELIVERY),
            [
                {
                    "result_id": ids[delivery.sop_uid],
                    "job_id": claim.job_id,
                    "study_id": claim.study_id,
                    "destination": delivery.destination,
                    "state": "queued",
                    "priority": claim.priority,
                    "attempts": 0,
                    "fence": 0,
                    "created_at": now,
                }
                for delivery in deliveries
            ],
        )
        hint_on_commit(conn, "deliveries")


def claim_delivery(
    db: Database,
    *,
    worker: str,
    lease_seconds: float,
    destination: str | None = None,
    except_for: Sequence[str] = (),
) -> DeliveryClaim | None:
    """Claim the first delivery that is ready.

    Parameters
    ----------
    destination : only to this one, so that one that hangs does not hold up the others
    except_for : to none of these: what is left has a destination that nobody serves
    """
    only = [] if destination is None else [DELIVERY.c.destination == destination]
    if except_for:
        only.append(DELIVERY.c.destination.not_in(except_for))
    with db.write() as conn:
        row = claim_first(conn, DELIVERIES, worker=worker, lease_seconds=lease_seconds, only=only)
        if row is None:
            return None
        query = sa.select(tables.STUDY.c.study_uid).where(tables.STUDY.c.id == row["study_id"])
        result = conn.execute(rows.RESULTS.where(RESULT.c.id == row["result_id"])).mappings().one()
        return DeliveryClaim(
            delivery_id=row["id"],
            fence=row["fence"],
            destination=row["destination"],
            result=rows.result(result),
            attempts=row["attempts"],
            study_uid=conn.execute(query).scalar_one(),
            lease_until=row["lease_until"],
        )


def extend_delivery(db: Database, claim: DeliveryClaim, lease_seconds: float) -> bool:
    """Prolong the lease from now; False: it was lost."""
    with db.write() as conn:
        until = now_in(conn) + lease_seconds
        return still_held(conn, DELIVERIES, claim.delivery_id, claim.fence, lease_until=until)


def give_back_delivery(db: Database, claim: DeliveryClaim) -> bool:
    """Leave a delivery to others at once; the try is not counted. False: it was lost already."""
    with db.write() as conn:
        hint_on_commit(conn, "deliveries")
        return release(
            conn,
            DELIVERIES,
            claim.delivery_id,
            claim.fence,
            "give_back",
            worker=None,
        )


def settle_delivery(
    db: Database,
    claim: DeliveryClaim,
    *,
    status: Literal["delivered", "retry", "park"],
    detail: str,
    tries_max: int,
    first_wait_seconds: float = 30.0,
    wait_seconds_max: float = 600.0,
) -> bool:
    """Record how a try ended; a retry waits, doubling, and is parked for a person after `tries_max`.

    Destinations are independent: each row has tries of its own. Returns False when the lease was lost.

    Parameters
    ----------
    detail : the peer's answer or the error, for people; empty when delivered
    """
    detail = detail[:DETAIL_LENGTH_MAX]
    result, where = claim.result, claim.destination
    with db.write() as conn:
        now = now_in(conn)
        if status == "delivered":
            event, kind, text = "deliver", "delivered", f"{result.kind} delivered to {where}"
            values: dict[str, Any] = {"delivered_at": now, "last_error": None}
        elif status == "retry" and claim.attempts < tries_max:
            wait = wait_seconds(
                claim.attempts, first_seconds=first_wait_seconds, longest_seconds=wait_seconds_max
            )
            event, kind = "back_off", "delivery_retry"
            text = (
                f"{result.kind} not delivered to {where}: {detail}; try {claim.attempts + 1} in {wait:.0f} s"
            )
            values = {"next_at": now + wait, "last_error": detail}
        else:
            event, kind = "park", "parked"
            tries = f"{claim.attempts} {'try' if claim.attempts == 1 else 'tries'}"
            text = f"{result.kind} for {where} parked after {tries}: {detail}; a person must retry or drop"
            values = {"last_error": detail}
        study = end_claim(
            conn,
            DELIVERIES,
            claim.delivery_id,
            claim.fence,
            event,
            study_id=result.study_id,
            **values,
        )
        if study is None:
            return False
        line = Line(kind, text, where, result.study_id, result.job_id)
        settle_study(conn, study, result.revision, [line])
    return True


def results_of(db: Database, *, study_id: int | None = None, job_id: int | None = None) -> list[ResultRecord]:
    """Results of a study (all revisions) or of a job, in the order they were made."""
    query = rows.RESULTS.order_by(RESULT.c.id)
    if study_id is not None:
        query = query.where(RESULT.c.study_id == study_id)
    if job_id is not None:
        query = query.where(RESULT.c.job_id == job_id)
    with db.read() as conn:
        return [rows.result(row) for row in conn.execute(query).mappings()]


def deliveries_of(
    db: Database, *, study_id: int | None = None, job_id: int | None = None
) -> list[DeliveryRecord]:
    """Deliveries of a study (all revisions) or of a job, in the order they were made."""
    query = sa.select(DELIVERY).order_by(DELIVERY.c.id)
    if study_id is not None:
        query = query.where(DELIVERY.c.study_id == study_id)
    if job_id is not None:
        query = query.where(DELIVERY.c.job_id == job_id)
    with db.read() as conn:
        return [rows.delivery(row) for row in conn.execute(query).mappings()]


def is_result_uid(db: Database, uid: str) -> bool:
    """Whether a SOP Instance or Series Instance UID is that of a result we made and still know."""
    query = sa.select(RESULT.c.id).where(sa.or_(RESULT.c.sop_uid == uid, RESULT.c.series_uid == uid)).limit(1)
    with db.read() as conn:
        return conn.execute(query).first() is not None


def own_series_uids(db: Database) -> set[str]:
    """Series Instance UIDs of all results we still know."""
    with db.read() as conn:
        return set(conn.execute(sa.select(RESULT.c.series_uid).distinct()).scalars())


def predecessors_of(
    db: Database, study_id: int, revision: int, model: str
) -> dict[ResultKind, list[ResultRecord]]:
    """Results of the newest older revision that has any of this model, by kind."""
    older = rows.RESULTS.where(
        RESULT.c.study_id == study_id, RESULT.c.revision < revision, JOB.c.model == model
    ).order_by(RESULT.c.revision.desc(), RESULT.c.id)
    found: dict[ResultKind, list[ResultRecord]] = {}
    with db.read() as conn:
        records = [rows.result(row) for row in conn.execute(older).mappings()]
    for record in records:
        if record.revision == records[0].revision:
            found.setdefault(record.kind, []).append(record)
    return found
