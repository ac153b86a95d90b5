"""The recipe "Add an engine" of docs/architecture.md, followed on a copy: one new file, its line in a table, a card."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = '''
"""Whoever is asked says the option shown last."""

from concurrent.futures import Future

from defsurvey.workers.engines.base import NO_DECODING, Completion, FinishReason


class LastShown:
    """Follows one rule."""

    def submit(self, request):
        """Answer at once."""
        done = Future()
        text = f"Answer: {request.asked.shown[-1]}"
        done.set_result(Completion(text=text, finish=FinishReason.STOP, used=NO_DECODING))
        return done

    def describe(self):
        """The rule."""
        return {"weights": "the option shown last"}

    def close(self):
        """Nothing to give back."""


def open_last_shown(card):
    """The engine of a card."""
    return LastShown()
'''
LINE = '    "last": Capabilities(opens="defsurvey.workers.engines.last:open_last_shown"),\n'
CARD = '[last-shown]\nengine = "last"\nlanguages = ["en"]\n\n'
STUDY = """{name: s, survey: wvs7, questions: [Q1, Q2], cultures: [us], models: [last-shown], conditions: [none],
  participants: 3}"""


def test_an_engine_is_one_file_a_line_and_a_card(tmp_path: Path) -> None:
    """It is among the models, a plan knows it, and a run asks it."""
    for name in ("defsurvey", "jobs", "workers", "storage", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "workers" / "engines" / "last.py").write_text(ENGINE)
    models = tmp_path / "workers" / "models.py"
    table = "ENGINES: Mapping[str, Capabilities] = {\n"
    assert table in models.read_text()
    models.write_text(models.read_text().replace(table, table + LINE))
    cards = tmp_path / "workers" / "models.toml"
    cards.write_text(CARD + cards.read_text())
    (tmp_path / "study.yaml").write_text(STUDY)

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "defsurvey", *words]
        where = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "last-shown" in run("models", "list")
    assert "last-shown" in run("plan", "study.yaml")
    run("run", "study.yaml")
    (tmp_path / "answers.csv").write_text(run("export", "s"))
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["model"], row["state"]) for row in rows} == {("last-shown", "answered")}
    assert len(rows) == 6
