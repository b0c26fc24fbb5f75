"""Instances whose digest is still to be made are found without looking at all others."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_instance_without_digest"),
        "instance",
        ["id"],
        unique=False,
        sqlite_where=sa.text("sha256 = ''"),
        postgresql_where=sa.text("sha256 = ''"),
    )
