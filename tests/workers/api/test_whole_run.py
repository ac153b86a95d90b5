"""A whole study against a server that goes wrong: queue, worker, ledger, report and command line as they really are."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget
from defsurvey.storage.runs.run import Decoding
from defsurvey.storage.schema import migrate
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, FinishReason
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from tests.end_to_end.machine import CULTURES, PLANNED, QUESTIONS, STUDY, Machine, machine_in
from tests.workers.api.conftest import KEY, ask
from tests.workers.api.server import CUT, Got, LocalServer, Reply, chat, error, message, serving
from tests.workers.tiny import write_tiny_model
from tests.workers.working import add_run, change, make_stage, rows

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


def in_schema(got: Got) -> str:
    """A reply in JSON that its schema allows: of each place the option that the seed says."""
    places = got.body["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps({name: place["enum"][got.body["seed"] % len(place["enum"])] for name, place in places.items()})


def test_a_study_of_bare_choices_from_the_file_to_the_report(machine: Machine) -> None:
    """Every answer is valid, what needs an explanation is not given and says why, and nobody judges it."""
    with serving(lambda got, before: chat(in_schema(got))) as server:
        serve_on(machine, server, "openai", 5)
        with (machine.folder / "study.yaml").open("a") as study:
            study.write("reply: choice\n")
        ran = machine.type("run", "study.yaml", MARKED_KEY=KEY)
        assert ran.returncode == 0, ran.stderr
        judged = machine.type("judge", "small", "--model", "served", MARKED_KEY=KEY)
    assert (judged.returncode, "can read, got bare choices (reply: choice)" in judged.stderr) == (2, True)
    assert machine.json("status")["answered"] == PLANNED == len(server.got)
    rows = exported(machine)
    assert {row["completion"] for row in rows} == {
        f"{start}{code}" for start in ("Answer: ", "答案：") for code in "1234"
    }
    assert all(row["completion"].endswith(str(*row["choices"])) for row in rows)
    machine.done("report", "small", "--output", str(machine.folder / "out"))
    for report in (machine.folder / "out" / name for name in ("report.md", "report.html")):
        assert "no answer is explained, and that every answer is valid is no merit" in report.read_text()
    assert 'title="replies were read as bare choices' in report.read_text()


#: US dollars for one answer of 20 tokens read and 5 written, at 1000 a million.
ANSWER = 0.025


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'x.db'}", synchronous="off") as opened:
        migrate(opened)
        add_run(opened, participants=10)
        yield opened


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serving(lambda got, before: chat("Answer: 2\nExplanation: So it is here.")) as local:
        yield local


def priced(server: LocalServer, price: float) -> ModelCard:
    """A model behind the server, in US dollars per million tokens."""
    url = f"{server.url}/v1"
    return ModelCard(name="quick", engine="openai", model="m", base_url=url, input_price=price, output_price=price)


@pytest.fixture
def stage(database: Database, server: LocalServer) -> Iterator[ParticipantRunner]:
    made = make_stage(database, {"quick": priced(server, 1000.0)}, [])
    yield made
    made.close()


def test_a_run_is_summed_up_now_and_then(
    database: Database, stage: ParticipantRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[str] = []
    left = budget.left

    def counted(of: Database, run: str) -> float | None:
        sums.append(run)
        return left(of, run)

    monkeypatch.setattr(budget, "left", counted)
    monkeypatch.setattr("defsurvey.storage.runs.budget.LOOK_SECONDS", 60.0)
    change(database, "UPDATE run SET budget = 1000.0")
    assert [stage.simulate(who) for who in range(1, 11)] == [Outcome.FINISHED] * 10
    assert sums == ["r", "r"]


def test_no_answer_is_asked_for_once_the_money_is_gone(database: Database, stage: ParticipantRunner) -> None:
    change(database, f"UPDATE run SET budget = {17.5 * ANSWER}")
    ended = [stage.simulate(who) for who in range(1, 11)]
    assert ended == [Outcome.FINISHED] * 4 + [Outcome.HALTED] + [Outcome.NOT_CLAIMED] * 5
    assert rows(database, "SELECT count(*) FROM answer") == [(18,)]
    budget.change_budget(database, "r", 100.0)
    assert [stage.simulate(who) for who in range(5, 11)] == [Outcome.FINISHED] * 6


def test_a_model_with_prices_of_0_is_neither_stopped_nor_summed_up(
    database: Database, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_of: Database, run: str) -> float | None:
        raise AssertionError(run)

    monkeypatch.setattr(budget, "left", never)
    change(database, "UPDATE run SET budget = 0.0")
    free = make_stage(database, {"quick": priced(server, 0.0)}, [])
    assert free.simulate(1) is Outcome.FINISHED
    free.close()


#: Seconds for a server to come up on a busy machine, the model library included.
PATIENCE = 150.0
SAMPLED = Decoding(do_sample=True, temperature=1.0, top_p=1.0, max_new_tokens=24)
GREEDY = Decoding(do_sample=False, max_new_tokens=24)


@contextmanager
def transformers_serving(folder: Path) -> Iterator[str]:
    """The address of a server for the model in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(folder), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    program = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", folder / "server.log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if httpx2.get(url, timeout=5).is_success:
                return
        except httpx2.HTTPError:
            assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@contextmanager
def engine_for(folder: Path, url: str, survey: Survey, cache: Path, **api: Any) -> Iterator[Engine]:
    given = {"model": str(folder), "base_url": url, "takes": ("temperature", "top_p", "seed")} | api
    card = ModelCard.model_validate({"name": "served", "engine": "openai"} | given)
    engine = open_engine(card, survey=survey, cache=cache)
    try:
        yield engine
    finally:
        engine.close()


def generated(folder: Path, prompt: str, tokens: int) -> tuple[str, int]:
    """What the model generates greedily after a prompt, and how many tokens the prompt has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    count = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    return tokenizer.decode(output[0, count:], skip_special_tokens=True), count


@pytest.mark.slow
def test_a_real_server_answers_as_the_model_does(small_survey: Survey, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", do_sample=True)
    with transformers_serving(folder) as url:
        with engine_for(folder, url, small_survey, tmp_path) as engine:
            greedy = engine.submit(ask("How?", decoding=GREEDY)).result(PATIENCE)
            text, count = generated(folder, "How?", 24)
            assert greedy.text == text
            assert (greedy.prompt_tokens, greedy.finish) == (count, FinishReason.LENGTH)
            assert greedy.completion_tokens == 24
            sampled = [engine.submit(ask(decoding=SAMPLED, seed=seed)).result(PATIENCE).text for seed in (1, 2, 1)]
            assert sampled[0] == sampled[2] != sampled[1]
        with engine_for(folder, url, small_survey, tmp_path, model="another") as engine:
            refused = engine.submit(ask()).result(PATIENCE)
            assert refused.finish is FinishReason.ERROR
            assert refused.error.startswith("the server says 400: Server is pinned to")
