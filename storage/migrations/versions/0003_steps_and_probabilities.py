"""Conditions of several steps, and option probabilities."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply the change."""
