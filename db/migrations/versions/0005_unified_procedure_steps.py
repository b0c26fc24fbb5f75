"""Unified procedure steps among the notices: another kind, and the states of a list of input."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KIND_BEFORE = "kind IN ('ian', 'mpps')"
_STATE_BEFORE = "state IN ('in_progress', 'completed', 'discontinued', 'available')"
_KIND = "kind IN ('ian', 'mpps', 'ups')"
_STATE = (
    "state IN ('in_progress', 'completed', 'discontinued', 'available', "
    "'input_ready', 'input_unlisted', 'input_incomplete', 'input_unavailable', 'canceled')"
)


def upgrade() -> None:
    # SQLite cannot change a constraint: there the table is made anew, as it stood, and its rows are copied.
    before = sa.Table(
        "notice",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source_ae", sa.Text(), nullable=False),
        sa.Column("sop_uid", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("named", sa.JSON(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.CheckConstraint(_KIND_BEFORE, name="ck_notice_kind"),
        sa.CheckConstraint(_STATE_BEFORE, name="ck_notice_state"),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
        sa.UniqueConstraint("kind", "source_ae", "sop_uid", name="uq_notice_kind_source_ae_sop_uid"),
        sa.Index("ix_notice_study_uid", "study_uid"),
    )
    with op.batch_alter_table("notice", copy_from=before) as batch:
        batch.drop_constraint(op.f("ck_notice_kind"), type_="check")
        batch.drop_constraint(op.f("ck_notice_state"), type_="check")
        batch.create_check_constraint(op.f("ck_notice_kind"), _KIND)
        batch.create_check_constraint(op.f("ck_notice_state"), _STATE)
