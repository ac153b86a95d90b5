"""The steps of answers that take several, kept in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import CompletedStep, Participant
from defsurvey.storage.runs.steps import commit_step, steps_of

_T = TypeVar("_T")


class Patience(Protocol):
    """Does a piece of work, and does it again while the database is not there."""

    def __call__(self, work: Callable[[], _T]) -> _T:
        """Give what the work gives."""
        ...


class LedgerNotes:
    """Commits each step of one participant's answers before the next is asked.

    Args:
        ledger: who commits, and where.
        held: whose steps they are; fenced by its epoch.
        patiently: waits out an outage of the database with the completion in hand.
    """

    def __init__(self, ledger: Ledger, held: Participant, patiently: Patience) -> None:
        self._ledger, self._held, self._patiently = ledger, held, patiently

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:
        """The steps that were committed before, by whichever worker."""
        return self._patiently(lambda: steps_of(self._ledger.database, self._held.id, item, attempt))

    def keep(self, step: CompletedStep) -> None:
        """Commit a step; raises ``storage.runs.ledger.StaleLease``."""
        self._patiently(lambda: commit_step(self._ledger.database, self._ledger.owner, self._held, step))
