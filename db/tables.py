"""Tables, constraints and indexes: the only place that declares columns.

Times are seconds since 1970 on the database's clock, except the `received` ones, which the listener stamped.
UIDs and names come from peers and are plain text everywhere, never paths. Two columns deserve a word:

- `job.run_after` and `delivery.next_at` are NULL for what may run now. A row that waits for its time lies
  outside the partial index that claims walk (`..._ready`), so that any number of waiting rows with a high
  priority costs a claim nothing; it comes back when its time has come (`db.jobs`, an indexed probe of
  `..._waiting`). With `run_after <= now` as a mere filter on the claim index, each claim would step over
  all of them.
- `job.model` is empty, not NULL, for a plan: NULLs would not collide in the unique index that makes
  `enqueue` idempotent. The plan of an early start holds there the Series Instance UID that became whole.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    TypeDecorator,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy import Text as AnyText
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import SchemaItem

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def plain(value: str) -> str:
    """`value` without what Postgres or UTF-8 cannot hold: NUL, lone surrogates. Peers send both."""
    if "\x00" in value:
        value = value.replace("\x00", "")
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


class Text(TypeDecorator[str]):
    """Text of any length, made storable on the way in: one hostile string must not stop the recorder."""

    impl = AnyText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is stored and compared."""
        return None if value is None else plain(value)


def written_out(constant: str) -> ColumnElement[str]:
    """A word of our own as part of a statement's text, not as a parameter of it."""
    if not constant.replace(" ", "").replace("_", "").replace(",", "").isalnum():
        raise ValueError(f"{constant!r} would need quoting")
    return literal_column(f"'{constant}'", AnyText)


NOTHING: ColumnElement[str] = literal_column("''", AnyText)


# SQLite makes a rowid alias, which RETURNING and AUTOINCREMENT need, only of the type INTEGER.
ID = BigInteger().with_variant(Integer(), "sqlite")


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _only(condition: str) -> dict[str, Any]:
    """Arguments of an index over only the rows that meet `condition`."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _location() -> list[SchemaItem]:
    return [
        Column("store", Text, nullable=False),
        Column("segment", BigInteger, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("length", BigInteger, nullable=False),
        Column("sha256", Text, nullable=False),
    ]


STUDY = Table(
    "study",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("study_uid", Text, nullable=False, unique=True),
    # 0: nothing but our own results came so far.
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("outcome", Text),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("priority", Integer, nullable=False),
    # 2 urgent, 1 something was found, 0 nothing or not known: the order of the worklist.
    Column("urgency", Integer, nullable=False),
    Column("score", Float),
    Column("headline", Text, nullable=False),
    Column("source_ae", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("patient_name", Text, nullable=False),
    Column("birth_date", Text, nullable=False),
    Column("sex", Text, nullable=False),
    Column("accession", Text, nullable=False),
    Column("study_date", Text, nullable=False),
    Column("study_time", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("modalities", Text, nullable=False),  # joined by backslashes, as DICOM joins values
    Column("body_part", Text, nullable=False),
    Column("instances", Integer, nullable=False),  # without our own
    Column("received_bytes", BigInteger, nullable=False),
    Column("first_received_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
    Column("whole_at", Float),
    Column("done_at", Float),
    _one_of("state", "receiving", "whole", "analysing", "done"),
    _one_of("outcome", "delivered", "not_analysed", "failed"),
    # A new study must never get the id of a forgotten one: a late worker could still hold it.
    sqlite_autoincrement=True,
)
Index("ix_study_worklist", STUDY.c.urgency.desc(), STUDY.c.last_received_at.desc())
Index("ix_study_receiving", STUDY.c.id, **_only("state = 'receiving'"))
Index("ix_study_done", STUDY.c.done_at, **_only("state = 'done'"))

SERIES = Table(
    "series",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("number", BigInteger),
    Column("body_part", Text, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("own", Boolean, nullable=False),
    Column("last_received_at", Float, nullable=False),
    UniqueConstraint("study_id", "series_uid"),
)

INSTANCE = Table(
    "instance",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False, index=True),
    Column("series_id", ID, ForeignKey("series.id"), nullable=False, index=True),
    Column("sop_uid", Text, nullable=False),
    Column("sop_class", Text, nullable=False),
    Column("transfer_syntax", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("instance_number", BigInteger),
    Column("calling_ae", Text, nullable=False),
    Column("called_ae", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("own", Boolean, nullable=False),
    Column("is_image", Boolean, nullable=False),
    *_location(),
    # By study, not alone: a UID that turns up in a second study must be visible there, not vanish.
    UniqueConstraint("sop_uid", "study_id"),
    Index("ix_instance_owner", "store", "segment", "epoch"),
    Index("ix_instance_without_digest", "id", **_only("sha256 = ''")),
)

CONFLICT = Table(
    "conflict",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("sop_uid", Text, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    *_location(),
    UniqueConstraint("study_id", "sop_uid", "sha256"),
    Index("ix_conflict_owner", "store", "segment", "epoch"),
)

SELECTION = Table(
    "selection",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("series_uid", Text),
    Column("taken", Boolean, nullable=False),
    Column("rank", Integer),
    Column("code", Text),
    Column("sentence", Text, nullable=False),
    Index("ix_selection_study", "study_id", "revision"),
)

JOB = Table(
    "job",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Text),
    Column("priority", Integer, nullable=False),
    Column("run_after", Float),
    Column("attempts", Integer, nullable=False),
    Column("attempts_max", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Float),
    Column("worker", Text),
    Column("outcome", Text),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("error", Text),
    Column("remedy", Text),
    Column("parameters", JSON, nullable=False),
    Column("findings", JSON(none_as_null=True)),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("done_at", Float),
    UniqueConstraint("study_id", "revision", "kind", "model"),
    _one_of("kind", "plan", "analyse"),
    _one_of("state", "queued", "running", "done", "failed", "cancelled"),
    _one_of("outcome", "planned", "analysed", "not_analysed"),
    sqlite_autoincrement=True,
)

DELIVERY = Table(
    "delivery",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("result_id", ID, ForeignKey("result.id"), nullable=False),
    Column("job_id", ID, ForeignKey("job.id"), nullable=False, index=True),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False, index=True),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("next_at", Float),
    Column("attempts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Float),
    Column("worker", Text),
    Column("last_error", Text),
    Column("created_at", Float, nullable=False),
    Column("delivered_at", Float),
    UniqueConstraint("result_id", "destination"),
    _one_of("state", "queued", "sending", "delivered", "parked", "dropped"),
    sqlite_autoincrement=True,
)


def _claim_indexes(table: Table, *, due: str, claimed: str) -> None:
    """Partial indexes of a table that is claimed from; rows leave them when they are finished.

    Measured on Postgres: flat from 10^3 to 10^6 rows, where an index on `state` alone fell a thousandfold.
    """
    ready, waiting = f"state = 'queued' AND {due} IS NULL", f"state = 'queued' AND {due} IS NOT NULL"
    Index(f"ix_{table.name}_ready", table.c.priority.desc(), table.c.id, **_only(ready))
    Index(f"ix_{table.name}_waiting", table.c[due], **_only(waiting))
    Index(f"ix_{table.name}_leased", table.c.lease_until, **_only(f"state = '{claimed}'"))


_claim_indexes(JOB, due="run_after", claimed="running")
_claim_indexes(DELIVERY, due="next_at", claimed="sending")
for _table, _state in ((JOB, "failed"), (DELIVERY, "parked")):
    # What needs a person is asked for at each look at the page.
    Index(f"ix_{_table.name}_{_state}", _table.c.id, **_only(f"state = '{_state}'"))

RESULT = Table(
    "result",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("job_id", ID, ForeignKey("job.id"), nullable=False, index=True),
    Column("study_id", ID, ForeignKey("study.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sop_uid", Text, nullable=False, unique=True),
    Column("sop_class", Text, nullable=False),
    Column("series_uid", Text, nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("predecessor_sop_uid", Text),
    *_location(),
    # HEAT is a heat map in a form of our own (pipeline.results.heat_map); it is kept and never sent.
    _one_of("kind", "SEG", "SR", "SC", "HEAT"),
    Index("ix_result_owner", "store", "segment", "epoch"),
)

EVENT = Table(
    "event",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("at", Float, nullable=False),
    # NULL: of the node, or of a study that retention dropped.
    Column("study_id", ID, ForeignKey("study.id"), index=True),
    Column("job_id", ID),  # an event goes with its study; no key of its own to look up
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("source", Text, nullable=False),
    # Set where a replay of the same records must not tell the same thing twice.
    Column("once", Text),
    UniqueConstraint("study_id", "once"),
)

NOTICE = Table(
    "notice",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("source_ae", Text, nullable=False),
    Column("sop_uid", Text, nullable=False),
    # No foreign key: a notice may come before the study, and empty where it names none.
    Column("study_uid", Text, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("named", JSON, nullable=False),  # {Series UID: [SOP Instance UID, ...]}
    Column("address", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("told", Boolean, nullable=False),  # on the timeline of its study
    # By its sender: nobody changes what another peer stated.
    UniqueConstraint("kind", "source_ae", "sop_uid"),
    _one_of("kind", "ian", "mpps", "ups"),
    _one_of(
        "state",
        *("in_progress", "completed", "discontinued", "available"),
        *("input_ready", "input_unlisted", "input_incomplete", "input_unavailable", "canceled"),
    ),
)

COMMITMENT = Table(
    "commitment",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("token", Text, nullable=False, unique=True),
    Column("source_ae", Text, nullable=False, index=True),
    Column("address", Text, nullable=False),
    Column("transaction_uid", Text, nullable=False),
    Column("asked", JSON, nullable=False),  # [[SOP Class UID, SOP Instance UID], ...]
    Column("instances", Integer, nullable=False),
    Column("received_at", Float, nullable=False),
    # Where its record in the log ends: it is judged when the log was applied so far.
    Column("epoch", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("outcome", Text),  # a `db.records.Finding` per reference
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float),
    Column("last_error", Text),
    _one_of("state", "asked", "judged", "parked"),
)

MARK = Table(
    "mark",
    METADATA,
    Column("store", Text, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

SEGMENT = Table(
    "segment",
    METADATA,
    Column("store", Text, primary_key=True),
    Column("segment", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    _one_of("state", "in_use", "retired"),
)

REFUSAL = Table(
    "refusal",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("calling_ae", Text, nullable=False),
    Column("called_ae", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("last_at", Float, nullable=False, index=True),
    UniqueConstraint("calling_ae", "called_ae", "address", "reason"),
)

WORKER = Table(
    "worker",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("pid", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("stage", Text),
    Column("job_id", BigInteger),  # no foreign key: a heartbeat must never fail over a forgotten job
    Column("memory_bytes", BigInteger, nullable=False),
    Column("models", JSON, nullable=False),
    Column("seen_at", Float, nullable=False),
)
