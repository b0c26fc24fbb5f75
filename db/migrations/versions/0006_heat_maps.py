"""Heat maps among the results: another kind, kept and never sent."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KIND_BEFORE = "kind IN ('SEG', 'SR', 'SC')"
_KIND = "kind IN ('SEG', 'SR', 'SC', 'HEAT')"
_KEPT = "delivery_kept_aside"


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # SQLite cannot change a constraint: there the table is made anew, as it stood, and its rows are copied.
    # Deliveries point to it and would forbid that it is dropped, so they step aside meanwhile.
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if is_sqlite:
        op.execute(f"CREATE TEMPORARY TABLE {_KEPT} AS SELECT * FROM delivery")
        op.execute("DELETE FROM delivery")
    before = sa.Table(
        "result",
        sa.MetaData(),
        sa.Column("id", _id(), nullable=False),
        sa.Column("job_id", _id(), nullable=False),
        sa.Column("study_id", _id(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("sop_class", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("predecessor_sop_uid", sa.Text(), nullable=True),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.CheckConstraint(_KIND_BEFORE, name="ck_result_kind"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_result_job_id"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_result_study_id"),
        sa.PrimaryKeyConstraint("id", name="pk_result"),
        sa.UniqueConstraint("sop_uid", name="uq_result_sop_uid"),
        sa.Index("ix_result_job_id", "job_id"),
        sa.Index("ix_result_owner", "store", "segment", "epoch"),
        sa.Index("ix_result_series_uid", "series_uid"),
        sa.Index("ix_result_study_id", "study_id"),
    )
    with op.batch_alter_table("result", copy_from=before) as batch:
        batch.drop_constraint(op.f("ck_result_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_result_kind"), _KIND)
    if is_sqlite:
        op.execute(f"INSERT INTO delivery SELECT * FROM {_KEPT}")
        op.execute(f"DROP TABLE {_KEPT}")
