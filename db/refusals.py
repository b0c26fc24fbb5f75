"""Associations that were refused, counted by who and why; the page says which setting would allow them."""

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database, now_in
from db.records import RefusedAssociation
from db.timeline import insert_once

REFUSAL = tables.REFUSAL
KEPT_MAX = 500  # a peer that tries names must not fill the disk; the oldest go
_TEXT_LENGTH_MAX = 500


def refuse_association(
    db: Database, *, calling_ae: str, called_ae: str, address: str, reason: str, remedy: str
) -> None:
    """Count one refused association; `remedy` names the setting that would allow it."""
    key = {
        "calling_ae": tables.plain(calling_ae)[:64],
        "called_ae": tables.plain(called_ae)[:64],
        "address": address[:64],
        "reason": reason[:_TEXT_LENGTH_MAX],
    }
    with db.write() as conn:
        now = now_in(conn)
        statement = insert_once(conn, REFUSAL).values(
            **key, remedy=remedy[:_TEXT_LENGTH_MAX], count=1, last_at=now
        )
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=[REFUSAL.c[name] for name in key],
                set_={"count": REFUSAL.c.count + 1, "last_at": now, "remedy": statement.excluded.remedy},
            )
        )
        newest = sa.select(REFUSAL.c.id).order_by(REFUSAL.c.last_at.desc(), REFUSAL.c.id.desc())
        conn.execute(sa.delete(REFUSAL).where(REFUSAL.c.id.not_in(newest.limit(KEPT_MAX))))


def list_refused(db: Database, *, limit: int = 200) -> list[RefusedAssociation]:
    """Refused associations, newest first."""
    query = sa.select(REFUSAL).order_by(REFUSAL.c.last_at.desc(), REFUSAL.c.id.desc()).limit(limit)
    with db.read() as conn:
        return [
            RefusedAssociation(
                calling_ae=row["calling_ae"],
                called_ae=row["called_ae"],
                address=row["address"],
                reason=row["reason"],
                remedy=row["remedy"],
                count=row["count"],
                last_at=rows.aware(row["last_at"]),
            )
            for row in conn.execute(query).mappings()
        ]
