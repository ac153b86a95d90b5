"""Many models, one worker: each is loaded once, filled as far as it has room, and a death on the way loses nothing."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from defsurvey.jobs.broker import EmbeddedBroker
from tests.end_to_end.library import FOLDER, MODELS, ROOM
from tests.end_to_end.machine import PLANNED, STUDY, Machine, ended, wait_until

CARD = '[{name}]\nengine = "tests.end_to_end.library:open_slowly"\npath = "."\n\n'
REPOSITORY = Path(__file__).parents[2]


def environment(machine: Machine) -> dict[str, str]:
    """Where the models note what happens, and where their code is found."""
    return {FOLDER: str(machine.folder), "PYTHONPATH": str(REPOSITORY)}


def prepare(machine: Machine) -> int:
    """Two runs of all four models, each in an order of its own. Returns the planned answers."""
    (machine.folder / "cards.toml").write_text("".join(CARD.format(name=name) for name in MODELS))
    drawn = random.Random(20250314)
    for name in ("first", "second"):
        order = drawn.sample(MODELS, len(MODELS))
        machine.write_study(STUDY.replace("citizen", ", ".join(order)))
        enqueued = machine.type("enqueue", "study.yaml", "--name", name, **environment(machine))
        assert enqueued.returncode == 0, enqueued.stderr
    return 2 * len(MODELS) * PLANNED


def loads(machine: Machine) -> list[str]:
    """The models that were opened, in order."""
    return [line.split()[1] for line in (machine.folder / "loads").read_text().splitlines()]


def worked_off(machine: Machine, planned: int) -> None:
    """One worker and a reconciler, until every answer is there."""
    daemons = [machine.start("worker", **environment(machine)), machine.start("reconciler")]
    wait_until(lambda: machine.answers() == planned, "every answer")
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
    assert [ended(daemon).returncode for daemon in daemons] == [0, 0]
    EmbeddedBroker(machine.home).stop()


def test_shuffled_work_of_four_models_costs_four_loads(machine: Machine) -> None:
    """The worker stays with a model over all runs; it takes up as many participants as the model has room for."""
    worked_off(machine, prepare(machine))
    assert Counter(loads(machine)) == dict.fromkeys(MODELS, 1)
    most = dict(line.split() for line in (machine.folder / "most").read_text().splitlines())
    # The first one was opened for those who had been let in before there was a model to say how many.
    filled = sorted(int(most[model]) for model in loads(machine)[1:])
    assert filled == [ROOM] * 3


@pytest.mark.slow
def test_a_worker_killed_while_it_changes_models_loses_nothing(machine: Machine) -> None:
    """The second model's opening ends the process; another worker goes on, and every planned answer is there once."""
    planned = prepare(machine)
    environ = environment(machine) | {"DEFSURVEY_LEASE_SECONDS": "3"}
    (machine.folder / "fatal").write_text(MODELS[2])
    first = machine.start("worker", "--models", ",".join(MODELS[1:3]), **environ)
    reconciler = machine.start("reconciler", **environ)
    assert ended(first).returncode == -signal.SIGKILL
    before = machine.answers()
    assert 0 < before < planned
    reconciler.send_signal(signal.SIGTERM)
    assert ended(reconciler).returncode == 0
    worked_off(machine, planned)
    assert loads(machine).count(MODELS[2]) == 2
    doubled = machine.rows("SELECT 1 FROM answer GROUP BY participant, item, slot HAVING count(*) > 1")
    unfinished = machine.rows("SELECT 1 FROM participant WHERE status <> 'finished'")
    assert (doubled, unfinished) == ([], [])
