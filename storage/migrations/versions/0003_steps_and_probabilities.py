"""Conditions of several steps, and option probabilities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("participant", sa.Column("questions", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE participant SET questions = planned")
    op.create_table(
        "step",
        sa.Column("participant", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("finish", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("committed_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["participant"], ["participant.id"]),
        sa.PrimaryKeyConstraint("participant", "item", "attempt", "number"),
    )
    op.create_table(
        "option_probability",
        sa.Column("participant", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("order", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("option", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["participant"], ["participant.id"]),
        sa.PrimaryKeyConstraint("participant", "item", "order", "place"),
    )
