"""A whole study against a server that goes wrong: queue, worker, ledger, report and command line as they really are."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.machine import CULTURES, PLANNED, QUESTIONS, STUDY, Machine, machine_in
from tests.workers.api.conftest import KEY
from tests.workers.api.server import CUT, Got, LocalServer, Reply, chat, error, message, serving

STATES = ("answered", "refused", "unparsable", "failed")
WHOLE = 2000
PARTICIPANTS = WHOLE // QUESTIONS // len(CULTURES)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machine_in(tmp_path / "machine") as own:
        yield own


def serve_on(machine: Machine, server: LocalServer, engine: str, participants: int) -> None:
    address = server.url if engine == "anthropic" else f"{server.url}/v1"
    card = f'[served]\nengine = "{engine}"\nmodel = "some-model"\nbase_url = "{address}"\nkey = "MARKED_KEY"\n'
    (machine.folder / "cards.toml").write_text(card)
    study = STUDY.replace("[citizen]", "[served]").replace("participants: 5", f"participants: {participants}")
    assert f"participants: {participants}\n" in study
    machine.write_study(study)


def traces(machine: Machine, key: str) -> list[str]:
    files = [file for file in machine.home.rglob("*") if file.is_file()]
    assert len(files) > 5
    return [str(file) for file in files if key.encode() in file.read_bytes()]


def exported(machine: Machine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in machine.done("export", "small", "--format", "jsonl").splitlines()]


class Failing:
    """Of all answers, 10% come after a 500, 5% after a cut connection, and 5% never: which ones, their text decides."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, str]] = Counter()
        self.succeeded: set[tuple[int, str]] = set()
        self.repeated: set[tuple[int, str]] = set()  # asked again although they had been answered
        self.rejected: set[tuple[int, str]] = set()

    def __call__(self, got: Got, before: int) -> Reply:
        """Behave; one text of one seed is one answer, whatever else was asked meanwhile."""
        asked = (int(got.body["seed"]), got.prompt)
        self.asked[asked] += 1
        if asked in self.succeeded:
            self.repeated.add(asked)
        kind = hashlib.sha256(repr(asked).encode()).digest()[0] % 20
        if kind == 0:
            self.rejected.add(asked)
            return error(400, f"this prompt is not allowed, {got.headers['authorization']}")
        if kind in (1, 2) and self.asked[asked] == 1:
            return error(500)
        if kind == 3 and self.asked[asked] == 1:
            return CUT
        self.succeeded.add(asked)
        return chat("Answer: 2\nExplanation: So it is.")


@pytest.mark.slow
def test_two_thousand_answers_from_a_server_that_fails_in_every_way(machine: Machine) -> None:
    failing = Failing()
    with serving(failing) as server:
        serve_on(machine, server, "openai", PARTICIPANTS)
        ran = machine.type("run", "study.yaml", "--concurrency", "16", MARKED_KEY=KEY)
    assert ran.returncode == 3, ran.stderr
    status = machine.json("status")
    assert (status["state"], status["planned"], status["remaining"]) == ("finished", WHOLE, 0)
    assert status["failed"] == len(failing.rejected) > 50
    assert sum(status[state] for state in STATES) == WHOLE
    assert sum(cell["planned"] for cell in status["cells"]) == WHOLE
    assert len(failing.succeeded) + len(failing.rejected) == len(failing.asked) == WHOLE
    assert not failing.repeated
    assert max(failing.asked.values()) == 2
    rows = exported(machine)
    assert len(rows) == WHOLE
    reasons = {row["reason"] for row in rows if row["state"] == "failed"}
    assert reasons == {"the server says 400: this prompt is not allowed, Bearer [key]"}
    assert server.most_at_once <= 16
    assert traces(machine, KEY) == []
    assert KEY not in ran.stdout + ran.stderr + machine.done("status")


def test_a_key_that_is_not_accepted_ends_the_work_and_resume_goes_on_with_a_better_one(machine: Machine) -> None:
    old, new = f"{KEY}-old", f"{KEY}-new"

    def behave(got: Got, before: int) -> Reply:
        if got.headers["authorization"] != f"Bearer {new}" and len(server.got) > 20:
            return error(401, f"invalid key {got.headers['authorization']}")
        if "thing 3" in got.prompt:
            return message("I will not say.", stop="refusal")
        return message("Answer: 2")

    with serving(behave) as server:
        serve_on(machine, server, "anthropic", 5)
        missing = machine.type("run", "study.yaml")
        assert missing.returncode == 2
        assert "model served: there is no key: set MARKED_KEY" in missing.stderr
        ran = machine.type("run", "study.yaml", MARKED_KEY=old)
        assert ran.returncode == 1, ran.stderr
        assert "the server says 401: invalid key Bearer [key]" in ran.stderr
        assert 0 < machine.answers() < PLANNED
        resumed = machine.type("resume", "small", "--wait", MARKED_KEY=new)
        assert resumed.returncode == 0, resumed.stderr
    status = machine.json("status")
    assert (status["answered"], status["refused"]) == (PLANNED - 5, 5)
    used = [value for row in exported(machine) for name, value in row.items() if name.startswith("used_")]
    assert Counter(used) == {None: 5 * PLANNED, 512: PLANNED}
    assert traces(machine, KEY) == []
    assert KEY not in ran.stdout + ran.stderr + resumed.stdout + resumed.stderr
