"""Storage commitment: who asked for which instances, what was found, and whether it was reported.

A request is judged only once the log was applied to the place where the request stands: everything that was
acknowledged before lies in front of it. Instances are held by their rows; one whose bytes were put aside as a
conflict counts as not held for the peer that sent those bytes. A row goes when its report was taken.

Source: PS3.4 annex J
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from db import rows, tables
from db.claiming import wait_seconds
from db.engine import Database, now_in
from db.records import AskedCommitment, Finding, JudgedCommitment, Mark
from db.timeline import insert_once, note

COMMITMENT, INSTANCE, CONFLICT, STUDY = tables.COMMITMENT, tables.INSTANCE, tables.CONFLICT, tables.STUDY

# Instances in unreported requests of one peer: it must not fill the disk. The oldest requests go.
KEPT_INSTANCES_MAX = 200_000
LOOKUP_MAX = 500  # parameters of one query
STUDIES_TOLD_MAX = 20  # of one request
JUDGED_PER_TURN = 50


def record_commitment(db: Database, asked: AskedCommitment, end: Mark) -> None:
    """Record a durable request whose record in the log ends at `end`; again changes nothing."""
    with db.write() as conn:
        values = {
            "token": asked.token,
            "source_ae": asked.source_ae,
            "address": asked.address,
            "transaction_uid": asked.transaction_uid,
            "asked": [list(reference) for reference in asked.references],
            "instances": len(asked.references),
            "received_at": asked.received_at,
            "epoch": end.epoch,
            "offset": end.offset,
            "state": "asked",
            "attempts": 0,
        }
        conn.execute(insert_once(conn, COMMITMENT).values(values).on_conflict_do_nothing())
        _drop_surplus(conn, asked.source_ae)


def judge_commitments(db: Database, applied: Mark, *, leave_seconds: float) -> list[JudgedCommitment]:
    """Judge what can be judged now that the log was applied to `applied`; the oldest, a number at a time.

    Parameters
    ----------
    leave_seconds : how long a judged request is left to the association it came on
    """
    behind = sa.or_(
        COMMITMENT.c.epoch < applied.epoch,
        sa.and_(COMMITMENT.c.epoch == applied.epoch, COMMITMENT.c.offset <= applied.offset),
    )
    query = sa.select(COMMITMENT).where(_is("asked"), behind).order_by(COMMITMENT.c.id).limit(JUDGED_PER_TURN)
    with db.read() as conn:
        asked = conn.execute(query).mappings().all()
    found = []
    for row in asked:
        with (
            db.write() as conn
        ):  # of its own: it locks the studies of one request, in the order of their UIDs
            outcome = _judged(conn, row)
            values = {"state": "judged", "outcome": outcome, "next_at": now_in(conn) + leave_seconds}
            conn.execute(sa.update(COMMITMENT).where(COMMITMENT.c.id == row["id"]).values(values))
            _tell(conn, row, "judged", f"asks for storage commitment of {words(outcome)}")
        found.append(_record({**row, **values}))
    return found


def words(outcome: str) -> str:
    """PURE. What was found, for people."""
    failed = len(outcome) - outcome.count(Finding.HELD)
    counted = f"{len(outcome)} instance{'' if len(outcome) == 1 else 's'}"
    return f"{counted}, {failed} of them not held here" if failed else f"{counted}, all held"


def due_commitments(db: Database, *, limit: int) -> list[JudgedCommitment]:
    """Judged requests whose report is to be sent now on an association of its own, oldest first."""
    with db.read() as conn:
        due = sa.select(COMMITMENT).where(_is("judged"), COMMITMENT.c.next_at <= now_in(conn))
        found = conn.execute(due.order_by(COMMITMENT.c.next_at, COMMITMENT.c.id).limit(limit))
        return [_record(row) for row in found.mappings()]


def seconds_to_next(db: Database) -> float | None:
    """Until the next report is due; None: there is none."""
    with db.read() as conn:
        at = conn.execute(sa.select(sa.func.min(COMMITMENT.c.next_at)).where(_is("judged"))).scalar()
        return None if at is None else max(0.0, float(at) - now_in(conn))


def commitment_reported(db: Database, token: str) -> None:
    """The peer took the report."""
    with db.write() as conn:
        row = _locked(conn, token)
        if row is not None:
            _tell(conn, row, "reported", "has the report of its storage commitment")
            conn.execute(sa.delete(COMMITMENT).where(COMMITMENT.c.id == row["id"]))


def report_apart(db: Database, token: str) -> None:
    """The association of the request is gone or gave no answer: report on one of our own, now."""
    with db.write() as conn:
        row = _locked(conn, token)
        if row is not None and row["state"] == "judged":
            values = {"next_at": now_in(conn)}
            conn.execute(sa.update(COMMITMENT).where(COMMITMENT.c.id == row["id"]).values(values))


def commitment_not_reported(
    db: Database, token: str, why: str, *, tries_max: int, first_wait_seconds: float, wait_seconds_max: float
) -> bool:
    """An attempt failed; whether the report is parked now, until the listener starts again."""
    with db.write() as conn:
        row = _locked(conn, token)
        if row is None:
            return False
        attempts = int(row["attempts"]) + 1
        parks = attempts >= tries_max
        wait = wait_seconds(attempts, first_seconds=first_wait_seconds, longest_seconds=wait_seconds_max)
        values = {
            "attempts": attempts,
            "last_error": why,
            "state": "parked" if parks else "judged",
            "next_at": None if parks else now_in(conn) + wait,
        }
        conn.execute(sa.update(COMMITMENT).where(COMMITMENT.c.id == row["id"]).values(values))
        if parks:
            _tell(conn, row, f"parked:{attempts}", f"cannot be told of its storage commitment: {why}")
        return parks


def resume_commitments(db: Database) -> None:
    """The listener starts: everything judged is due, and what was parked has all its tries again."""
    with db.write() as conn:
        now = now_in(conn)
        conn.execute(
            sa.update(COMMITMENT).where(_is("parked")).values(state="judged", attempts=0, next_at=now)
        )
        conn.execute(
            sa.update(COMMITMENT).where(_is("judged"), COMMITMENT.c.next_at > now).values(next_at=now)
        )


def unreported_commitments(db: Database) -> list[JudgedCommitment]:
    """Everything that was judged and not reported, oldest first."""
    query = sa.select(COMMITMENT).where(COMMITMENT.c.outcome.is_not(None)).order_by(COMMITMENT.c.id)
    with db.read() as conn:
        return [_record(row) for row in conn.execute(query).mappings()]


def _is(state: str) -> sa.ColumnElement[bool]:
    return COMMITMENT.c.state == sa.literal(state, literal_execute=True)


def _locked(conn: sa.Connection, token: str) -> rows.Row | None:
    query = sa.select(COMMITMENT).where(COMMITMENT.c.token == token).with_for_update()
    return conn.execute(query).mappings().first()


def _judged(conn: sa.Connection, row: rows.Row) -> str:
    """One `Finding` per reference, in order."""
    asked: Sequence[Sequence[str]] = row["asked"]
    classes: Mapping[str, set[str]] = defaultdict(set)
    aside: set[str] = set()
    for uids in _chunks({uid for _, uid in asked}):
        held = sa.select(INSTANCE.c.sop_uid, INSTANCE.c.sop_class).where(INSTANCE.c.sop_uid.in_(uids))
        for sop_uid, sop_class in conn.execute(held):
            classes[sop_uid].add(sop_class)
        of_peer = sa.and_(CONFLICT.c.sop_uid.in_(uids), CONFLICT.c.calling_ae == row["source_ae"])
        aside.update(conn.execute(sa.select(CONFLICT.c.sop_uid).where(of_peer)).scalars())
    return "".join(_finding(sop_class, classes.get(uid, ()), uid in aside) for sop_class, uid in asked)


def _finding(sop_class: str, held_as: Iterable[str], is_aside: bool) -> Finding:
    """PURE."""
    if is_aside or not held_as:
        return Finding.MISSING
    return Finding.HELD if sop_class in held_as else Finding.OTHER_CLASS


def _tell(conn: sa.Connection, row: rows.Row, what: str, text: str) -> None:
    """A line on the timeline of each study that the request names instances of."""
    ids: set[int] = set()
    for uids in _chunks({uid for _, uid in row["asked"]}):
        query = sa.select(INSTANCE.c.study_id).where(INSTANCE.c.sop_uid.in_(uids)).distinct()
        ids.update(conn.execute(query).scalars())
        if len(ids) > STUDIES_TOLD_MAX:
            break
    chosen = sorted(ids)[:STUDIES_TOLD_MAX]
    # Locked, so that retention does not drop one between this and its line.
    query = sa.select(STUDY.c.id).where(STUDY.c.id.in_(chosen)).order_by(STUDY.c.study_uid).with_for_update()
    for study_id in conn.execute(query).scalars().all():
        note(
            conn,
            study_id=study_id,
            kind="commitment",
            text=f"{row['source_ae']} {text}",
            source=row["source_ae"],
            once=f"commitment:{row['token']}:{what}",
        )


def _drop_surplus(conn: sa.Connection, source_ae: str) -> None:
    total = sa.func.sum(COMMITMENT.c.instances).over(order_by=COMMITMENT.c.id.desc())
    counted = sa.select(COMMITMENT.c.id, total.label("total")).where(COMMITMENT.c.source_ae == source_ae)
    of_peer = counted.subquery()
    surplus = sa.select(of_peer.c.id).where(of_peer.c.total > KEPT_INSTANCES_MAX)
    conn.execute(sa.delete(COMMITMENT).where(COMMITMENT.c.id.in_(surplus)))


def _chunks(uids: Iterable[str]) -> Iterable[list[str]]:
    listed = sorted(uids)
    return (listed[at : at + LOOKUP_MAX] for at in range(0, len(listed), LOOKUP_MAX))


def _record(row: rows.Row) -> JudgedCommitment:
    return JudgedCommitment(
        token=row["token"],
        source_ae=row["source_ae"],
        address=row["address"],
        transaction_uid=row["transaction_uid"],
        references=tuple((sop_class, uid) for sop_class, uid in row["asked"]),
        outcome=row["outcome"],
        attempts=row["attempts"],
        is_parked=row["state"] == "parked",
        last_error=row["last_error"] or "",
    )
