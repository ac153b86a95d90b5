"""What participants drew, as the engine really used it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.results import read_draws
from defsurvey.storage.runs.run import DrawsPer, Protocol
from defsurvey.storage.runs.store import add_run
from tests.storage.small_run import DRAWS, USED, answer, claimed, finish, new_cell, new_run, participant_ids, started


def test_one_row_for_each_participant_who_has_answered(database: Database, ledger: Ledger) -> None:
    """Rows are ordered by cell and participant; who has not answered yet has none."""
    first, second, _ = started(database, new_cell(participants=3))
    finish(ledger, second)
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0), ())
    drawn = read_draws(database, "first")
    assert drawn.participant.tolist() == [0, 1]
    assert drawn.question.tolist() == [-1, -1]
    assert drawn.memory_capacity.tolist() == [0, 1]
    assert (drawn.regions, drawn.region.tolist()) == (("US-OH",), [0, 0])
    assert (drawn.num_beams.tolist(), drawn.do_sample.tolist()) == ([3.0, 3.0], [1.0, 1.0])


def test_nothing_is_claimed_about_what_a_provider_decides(database: Database, ledger: Ledger) -> None:
    """A provider's default is nan, and the country alone is no region."""
    first, _ = started(database)
    held = claimed(ledger, first)
    given = answer(held, 0)
    ledger.checkpoint(
        held, replace(given, used=replace(USED, num_beams=None, do_sample=None), draws=replace(DRAWS, region=None)), ()
    )
    drawn = read_draws(database, "first")
    assert np.isnan(drawn.num_beams).all()
    assert np.isnan(drawn.do_sample).all()
    assert (drawn.regions, drawn.region.tolist()) == ((), [-1])


def test_draws_per_question_have_a_row_for_each_answer(database: Database, ledger: Ledger) -> None:
    """Where every question has its own draws, each answer tells its own."""
    run = replace(new_run(), protocol=Protocol(seed=11, draws=DrawsPer.QUESTION))
    add_run(database, run)
    finish(ledger, participant_ids(database)[0])
    drawn = read_draws(database, "first")
    assert drawn.question.tolist() == [0, 1, 2]
    assert drawn.participant.tolist() == [0, 0, 0]
