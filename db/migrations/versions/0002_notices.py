"""What peers state of studies: procedure steps and instance availability."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notice",
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
        sa.CheckConstraint("kind IN ('ian', 'mpps')", name=op.f("ck_notice_kind")),
        sa.CheckConstraint(
            "state IN ('in_progress', 'completed', 'discontinued', 'available')",
            name=op.f("ck_notice_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint("kind", "source_ae", "sop_uid", name=op.f("uq_notice_kind_source_ae_sop_uid")),
    )
    op.create_index(op.f("ix_notice_study_uid"), "notice", ["study_uid"], unique=False)
