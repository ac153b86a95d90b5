"""What judgements cost when they were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply the change; what was judged before goes by the prices of its judge."""
    op.add_column("judgement", sa.Column("input_price", sa.Float(), nullable=True))
    op.add_column("judgement", sa.Column("output_price", sa.Float(), nullable=True))
