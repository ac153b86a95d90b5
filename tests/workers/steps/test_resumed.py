"""Baselines in a real ledger: paired with DEF, killed between two steps, asked again, moved and counted."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, recovery, store
from defsurvey.storage.runs.archive import export_bundle, import_bundle
from defsurvey.storage.runs.export import answer_rows
from defsurvey.storage.runs.recovery import free_owned
from defsurvey.storage.runs.results import read_draws, read_results
from defsurvey.storage.runs.run import AnswerState, Protocol
from defsurvey.storage.runs.steps import steps_of
from defsurvey.storage.schema import migrate
from defsurvey.storage.surveys.as_json import fingerprint
from defsurvey.workers.runner.participant_runner import Outcome
from defsurvey.workers.simulation.methods import METHODS
from defsurvey.workers.simulation.methods.ccsv import VOTE, CcsvList
from tests.storage.what_is_there import answers_of, progress_of
from tests.workers.citizens import CN, SURVEY, US, Asked
from tests.workers.steps.mortal import worker

QUESTIONS = ("family", "divorce")
PROTOCOL = Protocol(seed=7)
CONDITIONS = ("def", "cao2023", "ccsv-single", "ccsv-list")
PARTICIPANTS = 2


def started(database: Database, *conditions: str, run: str = "r") -> dict[str, list[int]]:
    """Write a run for both cultures; gives the ids of the first culture's participants by condition."""
    cells = tuple(
        store.NewCell(
            model="quick",
            culture=culture.code,
            condition=BUILT_IN_CONDITIONS[name],
            language="en",
            draws=tuple(
                METHODS[BUILT_IN_CONDITIONS[name].method].draw(PROTOCOL, BUILT_IN_CONDITIONS[name], culture, index)
                for index in range(1 if name == "ccsv-list" else PARTICIPANTS)
            ),
        )
        for culture in (US, CN)
        for name in conditions
    )
    survey = replace(SURVEY, fingerprint=fingerprint(SURVEY))
    new = store.NewRun(
        id=run, survey=survey, questions=QUESTIONS, protocol=PROTOCOL, design="d", study="s", cells=cells
    )
    store.add_run(database, new)
    waiting = iter([message.participant for message in outbox.outgoing(database, run=run)])
    return {cell.condition.name: [next(waiting) for _ in cell.draws] for cell in cells[: len(conditions)]}


def everyone(database: Database, engine: Asked, *, run: str = "r") -> None:
    hand = worker(database, engine, owner="hand:1:x")
    for message in outbox.outgoing(database, run=run):
        assert hand.simulate(message.participant) is Outcome.FINISHED


def test_conditions_share_one_run_and_one_draw(database: Database) -> None:
    """Every planned answer of every condition is there, and equal indices have equal draws in all of them."""
    started(database, *CONDITIONS)
    engine = Asked()
    everyone(database, engine)
    progress = progress_of(database, "r")
    assert progress.planned == progress.answered == 2 * len(QUESTIONS) * (3 * PARTICIPANTS + CcsvList.slots)
    assert outbox.unfinished(database, "r") == 0
    assert len(engine.requests) == 2 * len(QUESTIONS) * (2 * PARTICIPANTS + (PARTICIPANTS + 1) * (VOTE + 1))
    rows = list(answer_rows(database, "r"))
    assert len(rows) == progress.planned
    for culture in ("us", "cn"):
        shown = {
            condition: {
                (row["participant"], row["question"]): row["shown"]
                for row in rows
                if (row["condition"], row["culture"], row["slot"]) == (condition, culture, 0)
            }
            for condition in CONDITIONS
        }
        assert shown["def"] == shown["cao2023"] == shown["ccsv-single"]
        seeds = [
            {row["seed"] for row in rows if (row["condition"], row["culture"]) == (condition, culture)}
            for condition in ("def", "cao2023")
        ]
        assert seeds[0] == seeds[1]  # one sampling seed for each participant and question
    results = read_results(database, "r")
    assert sorted(set(results.answers.slot.tolist())) == list(range(CcsvList.slots))
    assert read_draws(database, "r").cell.size == 2 * (3 * PARTICIPANTS + 1)


@pytest.mark.parametrize("condition", ["ccsv-single", "ccsv-list"])
def test_a_worker_killed_between_two_steps_has_none_asked_twice(database: Database, url: str, condition: str) -> None:
    """Killed with -9 amid the drafts of the second question: the next one asks for the rest only, to the same end."""
    who = started(database, condition)[condition][0]
    started(database, condition, run="whole")
    last = VOTE + 1 + 4
    command = [sys.executable, "-m", "tests.workers.steps.mortal", url, str(who), str(last)]
    dead = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    # What was asked for together with the last request had not been committed yet.
    committed = len(steps_of(database, who, 0, 0)) + len(steps_of(database, who, 1, 0))
    assert committed == VOTE + 1 + 2
    assert free_owned(database, "mortal:1:x")
    engine = Asked()
    everyone(database, engine)
    everyone(database, Asked(), run="whole")
    people = 2 * (PARTICIPANTS if condition == "ccsv-single" else 1)
    assert len(engine.requests) == people * len(QUESTIONS) * (VOTE + 1) - committed
    ours, whole = ([{**row, "run": "", "seconds": 0} for row in answer_rows(database, run)] for run in ("r", "whole"))
    assert ours == whole


def test_slots_of_a_panel_are_asked_again_by_one_chain(database: Database) -> None:
    """A retry of several slots of one item goes through the steps once, and replaces these slots alone."""
    who = started(database, "ccsv-list")["ccsv-list"][0]
    broken = Asked(gives_up_after=VOTE + 1)  # the second question fails
    hand = worker(database, broken, owner="hand:1:x")
    assert hand.simulate(who) is Outcome.FINISHED
    progress = progress_of(database, "r")
    assert (progress.answered, progress.failed) == (CcsvList.slots, CcsvList.slots)
    assert recovery.ask_again(database, "r", [AnswerState.FAILED]) == CcsvList.slots
    again = Asked()
    assert worker(database, again, owner="hand:2:x").simulate(who) is Outcome.FINISHED
    assert len(again.requests) == VOTE + 1
    progress = progress_of(database, "r")
    assert (progress.answered, progress.failed) == (2 * CcsvList.slots, 0)
    answers = answers_of(database, who)
    assert {(answer.item, answer.attempt) for answer in answers} == {(0, 0), (1, 1)}


def test_a_panel_moves_in_a_bundle(database: Database, tmp_path: Path) -> None:
    """Half-way through: on the other machine no step is asked again, and the export is that of one machine."""
    who = started(database, "ccsv-list")["ccsv-list"][0]
    halfway = worker(database, engine := Asked(), owner="hand:1:x")
    halfway.leases.count = lambda run: halfway.stop()  # type: ignore[method-assign]
    assert halfway.simulate(who) is Outcome.RELEASED
    assert len(engine.requests) == VOTE + 1
    export_bundle(database, "r", tmp_path / "r.bundle")
    everyone(database, Asked())
    with Database(f"sqlite:///{tmp_path / 'there.db'}", synchronous="off") as there:
        migrate(there)
        import_bundle(there, tmp_path / "r.bundle")
        rest = Asked()
        everyone(there, rest)
        assert len(rest.requests) == 3 * (VOTE + 1)
        assert list(answer_rows(there, "r")) == list(answer_rows(database, "r"))
