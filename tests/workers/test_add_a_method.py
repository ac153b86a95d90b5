"""The recipe "Add a method" of docs/architecture.md, followed on a copy: one new file, and one name in a list."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
METHOD = '''
"""A neighbour is asked about."""

from defsurvey.workers.simulation.methods.method import Method
from defsurvey.workers.simulation.prompts import country_name, request_text


class Neighbour(Method):
    """The model tells what a neighbour would answer."""

    name = "neighbour"

    def text(self, parts):
        """The prompt."""
        country = country_name(parts.culture, parts.language)
        request = request_text(parts.question, parts.shown, parts.language)
        return f"What does your neighbour in {country} say?\\n{request}"
'''
STUDY = "{name: s, survey: wvs7, questions: [Q1, Q2], cultures: [us], models: [uniform], conditions: [neighbour]}"


def test_a_method_is_one_file_and_a_name(tmp_path: Path) -> None:
    """A study names it, a preview shows its prompt, and a run asks by it and reports."""
    for name in ("defsurvey", "jobs", "workers", "storage", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    methods = tmp_path / "workers" / "simulation" / "methods"
    (methods / "neighbour.py").write_text(METHOD)
    listed = (methods / "__init__.py").read_text()
    first = "from defsurvey.workers.simulation.methods.method import Method"
    listed = listed.replace(first, f"{first}\nfrom defsurvey.workers.simulation.methods.neighbour import Neighbour")
    (methods / "__init__.py").write_text(listed.replace("FirstToken()", "FirstToken(), Neighbour()"))
    (tmp_path / "study.yaml").write_text(STUDY)

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "defsurvey", *words]
        where = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "What does your neighbour in United States say?" in run("preview", "study.yaml")
    run("run", "study.yaml")
    (tmp_path / "answers.csv").write_text(run("export", "s"))
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["condition"], row["state"]) for row in rows} == {("neighbour", "answered")}
    assert len(rows) == 40
