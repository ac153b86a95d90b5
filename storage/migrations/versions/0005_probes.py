"""What models know of a survey."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply the change."""
    keys = ("model", "kind", "culture", "language", "question")
    op.create_table(
        "probe",
        sa.Column("run", sa.String(), nullable=False),
        *(sa.Column(key, sa.String(), nullable=False) for key in keys),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("percent", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("asked_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"]),
        sa.PrimaryKeyConstraint("run", *keys),
    )
