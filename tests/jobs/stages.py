"""Stages for tests that need one and ask nothing of it."""

from __future__ import annotations

from typing import cast

from defsurvey.workers.runner.stage import Stage


def stage_that_is_never_asked() -> Stage:
    """Stands where a stage has to stand; whatever is asked of it fails."""
    return cast(Stage, object())
