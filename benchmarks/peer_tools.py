"""The tools that are compared, and how each is told to ask the same.

Knows how a workload becomes one command per tool: ours a study and a card, the others one JSON file that a script under
``benchmarks/peer_scripts`` reads with the tool's own Python. Deliberately imports none of the others.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peer_server import MODEL
from defsurvey.storage.surveys.folder import find_survey

TOOLS = ("ours", "qstn", "edsl", "inspect")
#: Asked of every participant: questions of wvs7 with one choice.
QUESTIONS = ("Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q27", "Q28", "Q29", "Q30")
RUN = "peers"
STUDY = """\
name: {run}
survey: wvs7
questions: [{questions}]
cultures: [us]
models: [peer]
conditions: [{condition}]
participants: {participants}
seed: 1
"""
CARD = """\
[peer]
engine = "openai"
base_url = "{server}"
model = "{model}"
languages = ["en"]
concurrency = {concurrency}
attempts = 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of every tool."""

    calls: int
    delay_ms: float  #: before each reply of the server
    concurrency: int  #: calls under way at once, at most

    def __post_init__(self) -> None:
        """Raises ValueError where the calls are no whole number of participants."""
        if self.calls < 1 or self.calls % len(QUESTIONS):
            raise ValueError(f"calls: {self.calls} is not a multiple of {len(QUESTIONS)}, the questions")

    @property
    def participants(self) -> int:
        """Each is asked every question once."""
        return self.calls // len(QUESTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """How our own run is set up."""

    condition: str  #: ``none``: as long a prompt as the others'; ``def``: with region and memory
    workers: int  #: processes, which share the concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and with which environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def command(tool: str, workload: Workload, *, server: str, folder: Path, venvs: Path, ours: Ours) -> Command:
    """Write what a tool needs into an empty folder. Returns its command.

    Args:
        tool: one of ``TOOLS``.
        workload: what to ask.
        server: its base URL, with ``/v1``.
        folder: all that the tool caches or stores goes there.
        venvs: has a virtual environment named after each peer.
        ours: only for our own run.
    """
    if tool == "ours":
        return _own(workload, server, folder, ours)
    (folder / "workload.json").write_text(json.dumps(_asked(workload, server)), encoding="utf-8")
    script = Path(__file__).parent / "peer_scripts" / f"ask_{tool}.py"
    return Command(
        words=(str(venvs.absolute() / tool / "bin" / "python"), str(script), "workload.json"),
        environment=_environment(folder),
    )


def committed(folder: Path) -> tuple[int, float]:
    """Of our own run: how many answers were read from the replies, and when the last was committed, since 1970."""
    with closing(sqlite3.connect(folder / "home" / "defsurvey.db")) as database:
        query = "SELECT sum(state = 'answered'), max(committed_at) FROM answer"
        answered, last = database.execute(query).fetchone()
    return int(answered or 0), float(last or 0.0)


def _own(workload: Workload, server: str, folder: Path, ours: Ours) -> Command:
    study = STUDY.format(
        run=RUN, questions=", ".join(QUESTIONS), condition=ours.condition, participants=workload.participants
    )
    share = workload.concurrency // ours.workers
    (folder / "study.yaml").write_text(study, encoding="utf-8")
    (folder / "cards.toml").write_text(CARD.format(server=server, model=MODEL, concurrency=share), encoding="utf-8")
    return Command(
        words=(sys.executable, "-m", "defsurvey", "run", "study.yaml", "--workers", str(ours.workers)),
        environment=_environment(folder)
        | {"DEFSURVEY_HOME": str(folder / "home"), "DEFSURVEY_MODELS": str(folder / "cards.toml")},
    )


def _environment(folder: Path) -> dict[str, str]:
    """This process's own, with every place where something could be kept in the folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DEFSURVEY_", "PYTHON"))}
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    kept = {place: str(folder / place.lower()) for place in places}
    for place in kept.values():
        Path(place).mkdir(mode=0o700, exist_ok=True)
    return inherited | kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _asked(workload: Workload, server: str) -> dict[str, object]:
    """The same questions for the others; every participant has a persona of its own, so that no prompt comes twice."""
    survey = find_survey("wvs7")
    questions = [survey.question(id_) for id_ in QUESTIONS]
    return {
        "server": server,
        "model": MODEL,
        "concurrency": workload.concurrency,
        "personas": [
            f"I want you to act as a citizen from United States. You are participant number {number}."
            for number in range(workload.participants)
        ],
        "questions": [
            {"id": q.id, "text": q.text["en"], "options": [option.label["en"] for option in q.options]}
            for q in questions
        ],
    }
