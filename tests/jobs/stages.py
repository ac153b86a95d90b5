"""Stages for tests that need one and ask nothing of it."""

from __future__ import annotations

from typing import cast

from defsurvey.workers.runner.participant_runner import ParticipantRunner


def stage_that_is_never_asked() -> ParticipantRunner:
    """Stands where a stage has to stand; whatever is asked of it fails."""
    return cast(ParticipantRunner, object())
