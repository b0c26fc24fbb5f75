"""Which segments of the byte stores rows need, and when one may be used again.

A segment is written once in each of its lives; a life is (store, number, epoch), and epochs count the
openings of segments of a store. The order that loses nothing:

1. `use_segments`: rows that point into a life and the life's row `in_use` are one commit.
2. Retention forgets studies, or moves single records forward (`relocate`): rows go or point elsewhere.
3. `retire_segments`: a life that no row points into, older than the store's mark, becomes `retired`. At and
   behind the mark there may be bytes that are durable and acknowledged but have no rows yet. Nothing ever
   points into an older life again: replay starts at the mark and writers append behind it.
4. `take_retired`: the store's writer recycles a segment only if its epoch on disk is the retired one, so an
   answer it got twice, or before a crash, does no harm. The new life has a new epoch.

Readers check the epoch: a record that was moved while they looked is asked for again, never misread.
"""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from db import rows, tables
from db.engine import Database
from db.records import KeptRecord, Location, Mark
from db.timeline import insert_once

SEGMENT, MARK = tables.SEGMENT, tables.MARK
_OWNERS = {"instance": tables.INSTANCE, "conflict": tables.CONFLICT, "result": tables.RESULT}


def use_segments(conn: sa.Connection, locations: Iterable[Location], *, moves_mark: bool = False) -> None:
    """Record the lives that rows of this transaction point into.

    `moves_mark`: for stores whose writer has one batch at a time and records it whole, that is all but the
    listener's: whatever it appends later lies in no older life than the oldest of this batch.
    """
    owners = sorted({location.owner for location in locations})
    if not owners:
        return
    statement = insert_once(conn, SEGMENT)
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[SEGMENT.c.store, SEGMENT.c.segment, SEGMENT.c.epoch], set_={"state": "in_use"}
        ),
        [
            {"store": store, "segment": segment, "epoch": epoch, "state": "in_use"}
            for store, segment, epoch in owners
        ],
    )
    if moves_mark:
        for store in {store for store, _, _ in owners}:
            _, segment, epoch = min((o for o in owners if o[0] == store), key=lambda owner: owner[2])
            set_mark(conn, Mark(store, segment, epoch, 0))


def set_mark(conn: sa.Connection, mark: Mark) -> None:
    """Move a store's mark forward; one that lies behind the present one changes nothing."""
    statement = insert_once(conn, MARK).values(
        store=mark.store, segment=mark.segment, epoch=mark.epoch, offset=mark.offset
    )
    new = statement.excluded
    further = sa.or_(new.epoch > MARK.c.epoch, sa.and_(new.epoch == MARK.c.epoch, new.offset > MARK.c.offset))
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=[MARK.c.store],
            set_={"segment": new.segment, "epoch": new.epoch, "offset": new.offset},
            where=further,
        )
    )


def read_mark(db: Database, store: str) -> Mark | None:
    """How far the store's log was applied; None: nothing was."""
    with db.read() as conn:
        row = conn.execute(sa.select(MARK).where(MARK.c.store == store)).mappings().first()
    return None if row is None else Mark(row["store"], row["segment"], row["epoch"], row["offset"])


def stores_in_use(db: Database) -> list[str]:
    """Names of all stores that rows point into or once did."""
    with db.read() as conn:
        return list(conn.execute(sa.select(SEGMENT.c.store).distinct().order_by(SEGMENT.c.store)).scalars())


def segments_in_use(db: Database, store: str) -> set[int]:
    """Numbers of the segments that rows may point into."""
    query = sa.select(SEGMENT.c.segment).where(SEGMENT.c.store == store, SEGMENT.c.state == "in_use")
    with db.read() as conn:
        return set(conn.execute(query).scalars())


def retire_segments(db: Database, store: str) -> list[tuple[int, int]]:
    """Retire every life no row points into and that lies before the mark; returns (segment, epoch)."""
    with db.write() as conn:
        epoch = conn.execute(sa.select(MARK.c.epoch).where(MARK.c.store == store)).scalar()
        if epoch is None:
            return []
        unused = [
            ~sa.exists().where(
                table.c.store == SEGMENT.c.store,
                table.c.segment == SEGMENT.c.segment,
                table.c.epoch == SEGMENT.c.epoch,
            )
            for table in _OWNERS.values()
        ]
        retired = conn.execute(
            sa.update(SEGMENT)
            .where(SEGMENT.c.store == store, SEGMENT.c.state == "in_use", SEGMENT.c.epoch < epoch, *unused)
            .values(state="retired")
            .returning(SEGMENT.c.segment, SEGMENT.c.epoch)
        )
        return sorted((row.segment, row.epoch) for row in retired)


def take_retired(db: Database, store: str) -> list[tuple[int, int]]:
    """(segment, epoch) of the lives that may be recycled, oldest first; says so again until they are gone.

    A retired life whose segment was opened anew since is forgotten here.
    """
    newer = SEGMENT.alias()
    with db.write() as conn:
        conn.execute(
            sa.delete(SEGMENT).where(
                SEGMENT.c.store == store,
                SEGMENT.c.state == "retired",
                sa.exists().where(
                    newer.c.store == SEGMENT.c.store,
                    newer.c.segment == SEGMENT.c.segment,
                    newer.c.epoch > SEGMENT.c.epoch,
                ),
            )
        )
        query = sa.select(SEGMENT.c.segment, SEGMENT.c.epoch).where(
            SEGMENT.c.store == store, SEGMENT.c.state == "retired"
        )
        return [(row.segment, row.epoch) for row in conn.execute(query.order_by(SEGMENT.c.epoch))]


def forget_retired(db: Database, store: str, lives: Sequence[tuple[int, int]]) -> None:
    """The files of these retired lives are removed for good."""
    with db.write() as conn:
        for segment, epoch in lives:
            conn.execute(
                sa.delete(SEGMENT).where(
                    SEGMENT.c.store == store,
                    SEGMENT.c.segment == segment,
                    SEGMENT.c.epoch == epoch,
                    SEGMENT.c.state == "retired",
                )
            )


def kept_bytes(db: Database, store: str) -> dict[tuple[int, int], int]:
    """Bytes that rows still need, by (segment, epoch), of lives before the mark: what moving would cost."""
    kept = sa.union_all(
        *(
            sa.select(table.c.segment, table.c.epoch, sa.func.sum(table.c.length).label("length"))
            .where(table.c.store == store)
            .group_by(table.c.segment, table.c.epoch)
            for table in _OWNERS.values()
        )
    ).subquery()
    total = sa.select(kept.c.segment, kept.c.epoch, sa.func.sum(kept.c.length).label("length"))
    mark = sa.select(MARK.c.epoch).where(MARK.c.store == store).scalar_subquery()
    with db.read() as conn:
        found = conn.execute(total.where(kept.c.epoch < mark).group_by(kept.c.segment, kept.c.epoch))
        return {(row.segment, row.epoch): int(row.length) for row in found}


def kept_records(db: Database, store: str, segment: int, epoch: int) -> list[KeptRecord]:
    """What still points into a life, in the order of its bytes."""
    with db.read() as conn:
        kept = [
            KeptRecord(kind, row["id"], rows.location(row))  # type: ignore[arg-type]
            for kind, table in _OWNERS.items()
            for row in conn.execute(
                sa.select(table).where(
                    table.c.store == store, table.c.segment == segment, table.c.epoch == epoch
                )
            ).mappings()
        ]
    return sorted(kept, key=lambda record: record.location.offset)


def relocate(db: Database, moves: Sequence[tuple[KeptRecord, Location]]) -> int:
    """Point rows to copies of their bytes that are durable already; returns how many did.

    A row that went or moved in the meantime is left alone.
    """
    moved: list[Location] = []
    with db.write() as conn:
        for record, to in moves:
            table, at = _OWNERS[record.kind], record.location
            changed = conn.execute(
                sa.update(table)
                .where(table.c.id == record.id, table.c.store == at.store, table.c.segment == at.segment)
                .where(table.c.epoch == at.epoch, table.c.offset == at.offset)
                .values(
                    store=to.store, segment=to.segment, epoch=to.epoch, offset=to.offset, length=to.length
                )
            )
            if changed.rowcount:
                moved.append(to)
        use_segments(conn, moved, moves_mark=True)
    return len(moved)
