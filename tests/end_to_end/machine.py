"""One machine as a user has it: a home, a study, and the command line as real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner
from sqlalchemy import text

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.jobs.cli.main import main
from defsurvey.storage.database import Database

PATIENCE = 60.0  #: seconds that anything here may take before it is a failure
HERE = ("bundle", "cancel", "export", "extend", "report", "retry", "status")  #: verbs that start no process
QUESTIONS = 8
PARTICIPANTS = 5
CULTURES = ("us", "cn")
PLANNED = QUESTIONS * PARTICIPANTS * len(CULTURES)

SURVEY = """\
id: small
title: A small survey
version: "1"
citation: Nobody (2025)
terms: Free
languages: [en, zh]
dimensions:
  EVI: {en: Emancipative values, zh: 解放价值观}
cultures:
  us: {name: {en: United States, zh: 美国}, language: en}
  cn: {name: {en: China, zh: 中国}, language: zh}
"""
QUESTION = """\
  - id: Q{number}
    type: ordinal
    topic: Life
    text: {{en: How important is thing {number}?, zh: 事情{number}有多重要？}}
    options: importance
    value: {{dimension: EVI, direction: 1, basis: A, core: true}}
"""
QUESTIONS_HEAD = """\
answers:
  importance:
    - {code: 1, label: {en: Very important, zh: 非常重要}}
    - {code: 2, label: {en: Rather important, zh: 比较重要}}
    - {code: 3, label: {en: Not very important, zh: 不太重要}}
    - {code: 4, label: {en: Not at all important, zh: 一点也不重要}}
questions:
"""
STUDY = f"""\
name: small
survey: survey
questions: all
cultures: [us, cn]
models: [citizen]
conditions: [def]
participants: {PARTICIPANTS}
seed: 7
"""
CARDS = """\
[citizen]
engine = "scripted"
respondent = "human"
latency_seconds = {latency}

[neighbour]
engine = "scripted"
respondent = "uniform"

[empty]
path = "empty"

[gone]
path = "gone"
"""


@dataclass
class Machine:
    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    first_output: str = ""  #: what the run that made this machine printed

    def __post_init__(self) -> None:
        survey = self.folder / "survey"
        survey.mkdir(parents=True)
        (self.folder / "empty").mkdir()
        (survey / "survey.yaml").write_text(SURVEY)
        self.write_survey(QUESTIONS)
        self.write_study(STUDY)
        self.set_latency(0.0)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.home / 'defsurvey.db'}"

    def write_survey(self, questions: int) -> None:
        survey, numbers = self.folder / "survey", range(1, questions + 1)
        (survey / "questions.yaml").write_text(QUESTIONS_HEAD + "".join(QUESTION.format(number=n) for n in numbers))
        lines = [f"Q{n},{culture},all,1000,,,1:40|2:30|3:20|4:10\n" for n in numbers for culture in CULTURES]
        (survey / "references.csv").write_text("question,culture,group,n,low_n,source,percent\n" + "".join(lines))

    def write_study(self, content: str) -> None:
        (self.folder / "study.yaml").write_text(content)

    def set_latency(self, seconds: float) -> None:
        (self.folder / "cards.toml").write_text(CARDS.format(latency=float(seconds)))

    def environment(self, **changes: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEFSURVEY_")}
        own = {"DEFSURVEY_HOME": str(self.home), "DEFSURVEY_MODELS": str(self.folder / "cards.toml")}
        return inherited | own | changes

    def start(self, *words: str, module: str = "defsurvey", **environment: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command, env = [sys.executable, "-m", module, *words], self.environment(**environment)
        process = subprocess.Popen(command, cwd=self.folder, env=env, text=True, **pipes)
        self.started.append(process)
        return process

    def stop(self, *daemons: subprocess.Popen[str]) -> None:
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            said = ended(daemon)
            assert said.returncode == 0, said.stderr
        EmbeddedBroker(self.home).stop()

    def type(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.type_here(*words, **environment) if words[0] in HERE else ended(self.start(*words, **environment))

    def type_here(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with chdir(self.folder), patch.dict(os.environ, self.environment(**environment), clear=True):
            told = CliRunner().invoke(main, words)
        return subprocess.CompletedProcess(words, told.exit_code, told.stdout, told.stderr)

    def done(self, *words: str, **environment: str) -> str:
        finished = self.type(*words, **environment)
        assert finished.returncode == 0, f"{words} ended with {finished.returncode}: {finished.stderr}"
        return finished.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.done(*words, "--json"))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with Database(self.database_url) as database, database.read() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def change(self, sql: str) -> None:
        with Database(self.database_url) as database:
            database.write(lambda connection: connection.execute(text(sql)))

    def answers(self) -> int:
        if not (self.home / "defsurvey.db").exists() or not self.rows(
            "SELECT 1 FROM sqlite_master WHERE name = 'answer'"
        ):
            return 0
        return int(self.rows("SELECT count(*) FROM answer")[0][0])

    def committed_at(self) -> dict[tuple[int, int], float]:
        found = self.rows("SELECT participant, item, committed_at FROM answer")
        return {(participant, item): at for participant, item, at in found}

    def export(self, run: str = "small") -> list[str]:
        lines = self.done("export", run, "--format", "jsonl").splitlines()
        name = f'{{"run": "{run}", '
        assert all(line.startswith(name) for line in lines)
        return [line.removeprefix(name) for line in lines]

    def processes(self, *words: str) -> list[int]:
        mark = f"DEFSURVEY_HOME={self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended meanwhile, or is not ours
                continue
            if mark in environment and all(word.encode() in command for word in words):
                found.append(int(entry.name))
        return sorted(found)

    def clear(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.started:
            process.communicate()


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=PATIENCE * 3)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


@contextmanager
def machine_in(folder: Path) -> Iterator[Machine]:
    machine = Machine(folder)
    try:
        yield machine
    finally:
        machine.clear()
