"""Whether a daemon of this host lives and does its work, by the age of a file that it touches.

A container's health check looks at the file's age in plain shell (compose.yaml), ``defsurvey healthy`` at the same.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

from celery import bootsteps

from defsurvey.jobs.settings import Settings
from defsurvey.storage.hosts import host

log = logging.getLogger(__name__)

#: Seconds between two beats of the reporter's pulse.
BEAT_SECONDS = 2.0
#: Seconds without a sign of life after which a daemon counts as ill; several beats of every role.
ILL_AFTER_SECONDS = 30.0


class Pulse:
    """The file, under the home, that a daemon of this host touches when it has shown that it can work.

    Workers of one host and home share it, so that it is as old as the newest beat of any.
    """

    def __init__(self, settings: Settings, role: str) -> None:
        self.role = role
        self.path = settings.home / "pulse" / f"{role}@{host().replace(':', '.')}"

    def beat(self) -> None:
        """Say that the daemon lives; where that cannot be written it goes on, and counts as ill."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            log.warning("pulse: %s", error)

    def end(self) -> None:
        """Take the file away: the daemon works no more."""
        self.path.unlink(missing_ok=True)

    def age(self) -> float | None:
        """Seconds since the last beat, or None where there was none."""
        try:
            return max(time.time() - self.path.stat().st_mtime, 0.0)
        except FileNotFoundError:
            return None

    def is_well(self) -> bool:
        """Whether the last beat is recent."""
        age = self.age()
        return age is not None and age <= ILL_AFTER_SECONDS

    def __str__(self) -> str:
        """One line for a person."""
        age, who = self.age(), f"{self.role} on {socket.gethostname()}"
        if age is None:
            return f"{who}: no sign of life yet"
        return f"{who}: last sign of life {age:.0f} s ago (at most {ILL_AFTER_SECONDS:.0f} s are healthy)"


def beating_step(pulse: Pulse) -> type[bootsteps.StartStopStep]:
    """A Celery consumer step that beats from the consumer's own loop, for as long as it is connected to the broker."""

    class Beating(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
        requires = ("celery.worker.consumer.tasks:Tasks",)
        timer: Any = None

        def start(self, consumer: Any) -> None:
            pulse.beat()
            self.timer = consumer.timer.call_repeatedly(BEAT_SECONDS, pulse.beat)

        def stop(self, _consumer: Any) -> None:
            if self.timer is not None:
                self.timer.cancel()

    return Beating
