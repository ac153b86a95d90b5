"""``defsurvey run`` and ``resume --wait`` work on the run that they are given, whatever else is unfinished here."""

from __future__ import annotations

from tests.end_to_end.machine import PLANNED, Machine, ended, wait_until


def answers_of(machine: Machine, run: str) -> int:
    """How many answers of a run are committed."""
    of_run = "SELECT count(*) FROM answer JOIN participant ON participant.id = answer.participant"
    return int(machine.rows(f"{of_run} WHERE run = '{run}'")[0][0])


def test_an_interrupted_run_is_not_gone_on_with_by_another(machine: Machine, expected: list[str]) -> None:
    """Its messages lie in the queue of the model that both have; it goes on when it is named, and loses nothing."""
    machine.set_latency(0.3)
    first = machine.start("run", "study.yaml", "--name", "mistaken", "--concurrency", "2")
    wait_until(lambda: machine.answers() >= 4 or first.poll() is not None, "the first answers")
    first.terminate()
    assert ended(first).returncode == 130
    before = answers_of(machine, "mistaken")
    assert 4 <= before < PLANNED
    machine.set_latency(0.0)
    machine.done("run", "study.yaml")
    assert (answers_of(machine, "mistaken"), answers_of(machine, "small")) == (before, PLANNED)
    machine.done("resume", "mistaken", "--wait")
    assert machine.export("mistaken") == machine.export("small") == expected


def test_a_card_that_is_gone_is_told_before_anything_starts(machine: Machine) -> None:
    """Of a model that still has work; one that has none is not needed any more."""
    machine.done("run", "study.yaml")
    cards = machine.folder / "cards.toml"
    with_all = cards.read_text()
    machine.done("extend", "small", "--models", "neighbour")
    cards.write_text(with_all.replace("[neighbour]", "[moved]"))
    refused = machine.type("resume", "small", "--wait")
    assert refused.returncode == 2
    assert refused.stderr.startswith("defsurvey: there is no model 'neighbour'")
    cards.write_text(with_all.replace("[citizen]", "[moved]"))
    machine.done("resume", "small", "--wait")
    assert machine.json("status", "small")["remaining"] == 0
