"""Judgements of answers, and readings by a person."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply the change."""
