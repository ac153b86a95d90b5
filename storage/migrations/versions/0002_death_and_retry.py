"""Participants that end their worker, and answers asked again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply the change."""
    # Columns are added in place: SQLite's way of copying a table would drop one that others refer to.
    for flag in ("suspect", "on_trial"):
        op.add_column("participant", sa.Column(flag, sa.Boolean(), nullable=False, server_default=sa.false()))
    for count in ("deaths", "commits"):
        op.add_column("participant", sa.Column(count, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("participant", sa.Column("attempts", sa.JSON(), nullable=False, server_default="{}"))
    op.execute("UPDATE participant SET commits = answered + refused + unparsable + failed")
    op.add_column("answer", sa.Column("out_of_sequence", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "again",
        sa.Column("participant", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["participant", "item", "slot"], ["answer.participant", "answer.item", "answer.slot"]),
        sa.PrimaryKeyConstraint("participant", "item", "slot"),
    )
