"""How long the senders of studies paused within them: the rows of the instances remember it."""

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database
from db.records import StudyPause

STUDY, INSTANCE = tables.STUDY, tables.INSTANCE

PAUSE_SECONDS_MAX = 3600.0  # what comes after more than an hour is an addition, no pause


def longest_pauses(db: Database, *, newest: int) -> list[StudyPause]:
    """The longest pause between two instances of each of the newest studies that were closed, newest first.

    Studies of one instance have none.
    """
    studies = (
        sa.select(STUDY.c.id)
        .where(STUDY.c.state != "receiving", STUDY.c.revision > 0)
        .order_by(STUDY.c.id.desc())
        .limit(newest)
    )
    before = sa.func.lag(INSTANCE.c.received_at).over(
        partition_by=INSTANCE.c.study_id, order_by=INSTANCE.c.received_at
    )
    waited = (
        sa.select(INSTANCE.c.study_id, (INSTANCE.c.received_at - before).label("seconds"))
        .where(INSTANCE.c.study_id.in_(studies), ~INSTANCE.c.own)
        .subquery()
    )
    longest = (
        sa.select(waited.c.study_id, sa.func.max(waited.c.seconds).label("seconds"))
        .where(waited.c.seconds <= PAUSE_SECONDS_MAX)
        .group_by(waited.c.study_id)
        .subquery()
    )
    query = sa.select(STUDY.c.source_ae, STUDY.c.modalities, longest.c.seconds).join(
        longest, longest.c.study_id == STUDY.c.id
    )
    with db.read() as conn:
        found = conn.execute(query.order_by(STUDY.c.id.desc()))
        return [StudyPause(row.source_ae, rows.modalities(row.modalities), row.seconds) for row in found]
