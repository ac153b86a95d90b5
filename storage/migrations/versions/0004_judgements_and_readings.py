"""Judgements of answers, readings by a person, and budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply the change."""
    op.add_column("run", sa.Column("judge", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("run", sa.Column("budget", sa.Float(), nullable=True))
    op.add_column("cell", sa.Column("halted", sa.Boolean(), nullable=False, server_default=sa.false()))
    for count in ("prompt_tokens", "completion_tokens"):
        op.add_column("participant", sa.Column(count, sa.BigInteger(), nullable=False, server_default="0"))
        op.execute(
            f"UPDATE participant SET {count} = coalesce("  # noqa: S608 -- a name of ours
            f"(SELECT sum(answer.{count}) FROM answer WHERE answer.participant = participant.id), 0)"
        )
    _reports()
    _judges()
    _people()


def _reports() -> None:
    """A report gets a second revision in its key, and keys cannot be changed in place everywhere."""
    connection = op.get_bind()
    before = connection.execute(sa.text("SELECT run, revision, html, markdown, built_at FROM report")).mappings().all()
    op.drop_table("report")
    report = op.create_table(
        "report",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("judgements", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("html", sa.String(), nullable=False),
        sa.Column("markdown", sa.String(), nullable=False),
        sa.Column("built_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"]),
        sa.PrimaryKeyConstraint("run", "revision", "judgements"),
    )
    if before:
        op.bulk_insert(report, [{**row, "judgements": 0} for row in before])


def _judges() -> None:
    op.create_table(
        "judge",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("description", sa.JSON(), nullable=False),
        sa.Column("input_price", sa.Float(), nullable=True),
        sa.Column("output_price", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("identity"),
    )
    op.create_table(
        "calibration",
        sa.Column("judge", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["judge"], ["judge.id"]),
        sa.PrimaryKeyConstraint("judge", "item"),
    )
    op.create_table(
        "judgement",
        sa.Column("judge", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("participant", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("repeat", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("batched", sa.Boolean(), nullable=False),
        sa.Column("judged_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["judge"], ["judge.id"]),
        sa.ForeignKeyConstraint(["participant"], ["participant.id"]),
        sa.PrimaryKeyConstraint("judge", "participant", "item", "slot", "attempt", "digest", "repeat"),
    )
    op.create_index("ix_judgement_participant", "judgement", ["participant"])
    op.create_table(
        "judging",
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("judge", sa.Integer(), nullable=True),
        sa.Column("ended", sa.String(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("ledger", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"]),
        sa.ForeignKeyConstraint(["judge"], ["judge.id"]),
        sa.PrimaryKeyConstraint("run", "model"),
    )
    op.create_table(
        "judge_batch",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=True),
        sa.Column("judge", sa.Integer(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("calls", sa.JSON(), nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["judge"], ["judge.id"]),
        sa.ForeignKeyConstraint(["run"], ["run.id"]),
        sa.PrimaryKeyConstraint("token"),
    )


def _people() -> None:
    op.create_table(
        "label",
        sa.Column("participant", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dimension", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["participant"], ["participant.id"]),
        sa.PrimaryKeyConstraint("participant", "item", "slot", "digest", "dimension", "person"),
    )
    op.create_table(
        "reading",
        sa.Column("participant", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("choices", sa.Text(), nullable=False),
        sa.Column("read_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["participant"], ["participant.id"]),
        sa.PrimaryKeyConstraint("participant", "item", "slot", "digest", "reader"),
    )
