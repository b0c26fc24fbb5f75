"""What peers state of studies by themselves: procedure steps (MPPS, UPS) and instance availability.

A notice may come before, with or after its images, and may be recorded again by a replay. Each is one row by
its kind, sender and SOP Instance UID, and one line on its study's timeline for each state it reaches.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database, hint_on_commit
from db.records import NoticeState, ReceivedNotice
from db.studies import locked_study_by_uid
from db.timeline import note

NOTICE, STUDY, SERIES, INSTANCE = tables.NOTICE, tables.STUDY, tables.SERIES, tables.INSTANCE

# Of one sender about one study, and in all of studies that never came: a peer must not fill the disk.
KEPT_MAX, KEPT_UNKNOWN_MAX = 64, 1000

_STATES: Mapping[NoticeState, str] = {
    "in_progress": "procedure step in progress",
    "completed": "procedure step completed",
    "discontinued": "procedure step discontinued",
    "available": "availability notice",
    "input_ready": "unified procedure step, its input ready",
    "input_unlisted": "unified procedure step, its input ready but not all of it listed",
    "input_incomplete": "unified procedure step, its input incomplete",
    "input_unavailable": "unified procedure step, its input not available",
    "canceled": "unified procedure step canceled",
}


def record_notice(db: Database, notice: ReceivedNotice) -> None:
    """Record a durable notice; recording it again, or an older state after a newer one, changes nothing."""
    with db.write() as conn:
        row = conn.execute(sa.select(NOTICE).where(_same(notice))).mappings().first()
        study_uid = notice.study_uid or (row["study_uid"] if row else "")
        # The study before its notices, as retention does.
        study = locked_study_by_uid(conn, study_uid) if study_uid else None
        _write(conn, notice, row)
        if study is not None:
            _tell(conn, study)
        _drop_surplus(conn, notice.source_ae, study_uid)


def notices_of_receiving(db: Database) -> dict[str, list[ReceivedNotice]]:
    """All notices about studies that still receive, by Study Instance UID, oldest first.

    Those that came before their study are told on its timeline now.
    """
    receiving = STUDY.c.state == sa.literal("receiving", literal_execute=True)
    query = sa.select(NOTICE).join(STUDY, STUDY.c.study_uid == NOTICE.c.study_uid).where(receiving)
    found: dict[str, list[ReceivedNotice]] = defaultdict(list)
    untold = set()
    with db.read() as conn:
        for row in conn.execute(query.order_by(NOTICE.c.id)).mappings():
            found[row["study_uid"]].append(_record(row))
            if not row["told"]:
                untold.add(row["study_uid"])
    for study_uid in untold:
        with db.write() as conn:
            study = locked_study_by_uid(conn, study_uid)
            if study is not None:
                _tell(conn, study)
    return found


def unified_step_state(db: Database, source_ae: str, sop_uid: str) -> NoticeState | None:
    """What is known of a UPS that this sender created; None: nothing."""
    query = sa.select(NOTICE.c.state).where(
        NOTICE.c.kind == "ups", NOTICE.c.source_ae == source_ae, NOTICE.c.sop_uid == sop_uid
    )
    with db.read() as conn:
        state: NoticeState | None = conn.execute(query).scalar_one_or_none()
    return state


def held_uids(db: Database, study_id: int) -> dict[str, frozenset[str]]:
    """SOP Instance UIDs of what a study holds, by Series Instance UID, without our own results."""
    query = sa.select(SERIES.c.series_uid, INSTANCE.c.sop_uid).join_from(INSTANCE, SERIES)
    held: dict[str, set[str]] = defaultdict(set)
    with db.read() as conn:
        for row in conn.execute(query.where(INSTANCE.c.study_id == study_id, ~INSTANCE.c.own)):
            held[row.series_uid].add(row.sop_uid)
    return {series_uid: frozenset(uids) for series_uid, uids in held.items()}


def merged(known: ReceivedNotice, new: ReceivedNotice) -> ReceivedNotice:
    """PURE: what a sender states after another message about the same thing.

    A final state stays (PS3.4 F.7.2.2.2 and CC.1.1), with what it named; else the newer message replaces what
    it says. A UPS that is created again is replaced as a whole: its list may have become shorter.
    """
    study_uid = known.study_uid or new.study_uid
    if known.state in ("completed", "discontinued", "canceled"):
        return replace(known, study_uid=study_uid)
    if new.kind == "ups" and new.state != "canceled":
        return new
    return replace(new, study_uid=study_uid, named=new.named or known.named)


def _same(notice: ReceivedNotice) -> sa.ColumnElement[bool]:
    return sa.and_(
        NOTICE.c.kind == notice.kind,
        NOTICE.c.source_ae == notice.source_ae,
        NOTICE.c.sop_uid == notice.sop_uid,
    )


def _write(conn: sa.Connection, notice: ReceivedNotice, row: rows.Row | None) -> None:
    known = None if row is None else _record(row)
    now = notice if known is None else merged(known, notice)
    if now == known:
        return
    values = {
        "study_uid": now.study_uid,
        "state": now.state,
        "named": {series: list(uids) for series, uids in now.named.items()},
        "address": now.address,
        "received_at": now.received_at,
        "told": False,
    }
    if row is None:
        key = {"kind": now.kind, "source_ae": now.source_ae, "sop_uid": now.sop_uid}
        conn.execute(sa.insert(NOTICE).values(**key, **values))
    else:
        conn.execute(sa.update(NOTICE).where(NOTICE.c.id == row["id"]).values(**values))


def _tell(conn: sa.Connection, study: rows.Row) -> None:
    """Add to the timeline of a locked study what was not told yet."""
    untold = sa.select(NOTICE).where(NOTICE.c.study_uid == study["study_uid"], ~NOTICE.c.told)
    for row in conn.execute(untold.order_by(NOTICE.c.id)).mappings().all():
        text = f"{row['source_ae']}: {_words(_record(row))}"
        if row["named"] and study["state"] != "receiving":
            named = {uid for uids in row["named"].values() for uid in uids}
            absent = len(named - _held(conn, study["id"]))
            text += f", {absent} of them not here" if absent else ", all here"
        note(
            conn,
            study_id=study["id"],
            kind="stated",
            text=text,
            source=row["source_ae"],
            once=f"notice:{row['id']}:{text}",  # the same words again are no news
        )
        conn.execute(sa.update(NOTICE).where(NOTICE.c.id == row["id"]).values(told=True))
        hint_on_commit(conn, "studies")


def _words(notice: ReceivedNotice) -> str:
    count = sum(map(len, notice.named.values()))
    if not count:
        return _STATES[notice.state]
    instances = f"{count} instance{'' if count == 1 else 's'}"
    return f"{_STATES[notice.state]}: {instances} in {len(notice.named)} series"


def _drop_surplus(conn: sa.Connection, source_ae: str, study_uid: str) -> None:
    of_one = sa.and_(NOTICE.c.source_ae == source_ae, NOTICE.c.study_uid == study_uid)
    unknown = ~NOTICE.c.told
    for which, most in ((of_one, KEPT_MAX if study_uid else KEPT_UNKNOWN_MAX), (unknown, KEPT_UNKNOWN_MAX)):
        newest = sa.select(NOTICE.c.id).where(which).order_by(NOTICE.c.id.desc()).limit(most)
        conn.execute(sa.delete(NOTICE).where(which, NOTICE.c.id.not_in(newest)))


def _held(conn: sa.Connection, study_id: int) -> set[str]:
    query = sa.select(INSTANCE.c.sop_uid).where(INSTANCE.c.study_id == study_id)
    return set(conn.execute(query).scalars())


def _record(row: rows.Row) -> ReceivedNotice:
    return ReceivedNotice(
        kind=row["kind"],
        state=row["state"],
        sop_uid=row["sop_uid"],
        study_uid=row["study_uid"],
        source_ae=row["source_ae"],
        address=row["address"],
        received_at=row["received_at"],
        named={series: tuple(uids) for series, uids in row["named"].items()},
    )
