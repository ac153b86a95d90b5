"""The recipes of docs/architecture.md, followed on a copy of the program: as few places as they say, and it works."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHOD = """
from defsurvey.workers.simulation.methods.method import Method
from defsurvey.workers.simulation.prompts import country_name, request_text


class Neighbour(Method):
    name = "neighbour"

    def text(self, parts):
        country = country_name(parts.culture, parts.language)
        request = request_text(parts.question, parts.shown, parts.language)
        return f"What does your neighbour in {country} say?\\n{request}"
"""
ENGINE = """
from concurrent.futures import Future

from defsurvey.workers.engines.base import NO_DECODING, Completion, FinishReason


class LastShown:
    def submit(self, request):
        done = Future()
        text = f"Answer: {request.asked.shown[-1]}"
        done.set_result(Completion(text=text, finish=FinishReason.STOP, used=NO_DECODING))
        return done

    def describe(self):
        return {"weights": "the option shown last"}

    def close(self):
        pass

def open_last_shown(card):
    return LastShown()
"""
METRIC = """
import numpy as np


def commonest_share(counts):
    return float(np.mean(counts.max(axis=-1) / counts.sum(axis=-1)))
"""
FIGURE = """
from dataclasses import replace

from defsurvey.reports.analysis import NotRun
from defsurvey.reports.figures.words import MODEL, culture_table, section
from defsurvey.reports.page import Field


def unrefused(analysis):
    if not analysis.overall.done:
        raise NotRun("nothing was answered")
    return analysis.cells


@section("unrefused", "Unrefused", "Who refused nothing")
def unrefused_section(analysis, section):
    fields = [MODEL, Field("Refusals", lambda cell: str(cell.quality.refused.count))]
    shown = culture_table(analysis, analysis.figure(unrefused), fields, anchor="u", caption="Refusals by model")
    return replace(section, tables=(shown,))
"""
IMPORTER = """
from defsurvey.storage.surveys.importers.cultures import read_populations
from defsurvey.storage.surveys.importers.imported import Imported
from defsurvey.storage.surveys.survey import Group, Option, Question, QuestionType, ReferenceDistribution, Survey


def import_lines(path, *, id, cultures, country):
    (people,) = read_populations(cultures).chosen([country])
    questions, references = [], []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        name, (text, *parts) = f"L{number}", line.split("|")
        options = tuple(Option(code=code, label={"en": label}) for code, label in enumerate(parts[::2], start=1))
        shares = {code: int(share) / 1000 for code, share in enumerate(parts[1::2], start=1)}
        given = {"id": name, "type": QuestionType.SINGLE, "topic": "Lines", "text": {"en": text}}
        questions.append(Question(**given, options=options))
        culture = people.culture(("en",))
        given = {"question": name, "culture": culture.code, "group": Group.ALL}
        references.append(ReferenceDistribution(**given, shares=shares, n=1000))
    survey = Survey(
        id=id, title="Lines", version="1", citation="nobody", terms="none", languages=("en",), dimensions={},
        questions=tuple(questions), cultures=(culture,), references=tuple(references),
    )
    return Imported(survey=survey, left_out=())
"""
COMMAND = """_importer(
    "lines", "A question a line.", "lines:import_lines", _FILE, click.option("--country", type=text, required=True)
)


"""
LINE = '    "last": Capabilities(opens="defsurvey.workers.engines.last:open_last_shown"),\n'
CARD = '[last-shown]\nengine = "last"\nlanguages = ["en"]\n\n'
COLUMN = "    letters: int | None = None  #: of the completion\n"
FILLED = "            letters=len(completion.text if text is None else text),\n"
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade():
    op.add_column("answer", sa.Column("letters", sa.Integer()))
"""
VERB = '''

@click.command()
@RUN
@JSON
@click.pass_obj
def count(settings, run_id, as_json):
    """How many answers a run has."""
    from defsurvey.jobs.progress import snapshot

    with opened(settings) as database:
        done = snapshot(database, run_id).progress.done
    print_result({"run": run_id, "answers": done}, [f"{run_id}: {done} answers"], as_json=as_json)
'''
STUDY = """{name: s, survey: wvs7, questions: [Q1, Q2], cultures: [us], models: [MODEL], conditions: [CONDITION],
  participants: 3}"""


@dataclass(frozen=True)
class ScratchCopy:
    folder: Path

    def insert(self, file: str, after: str, text: str) -> None:
        content = (self.folder / file).read_text()
        assert after in content
        (self.folder / file).write_text(content.replace(after, after + text, 1))

    def run(self, *words: str, **environment: str) -> str:
        command = [sys.executable, "-m", "defsurvey", *words]
        where = os.environ | {"PYTHONPATH": str(self.folder), "DEFSURVEY_HOME": ".defsurvey"} | environment
        done = subprocess.run(command, cwd=self.folder, env=where, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answers(self, model: str, condition: str) -> list[dict[str, str]]:
        (self.folder / "study.yaml").write_text(STUDY.replace("MODEL", model).replace("CONDITION", condition))
        self.run("run", "study.yaml")
        return list(csv.DictReader(self.run("export", "s").splitlines()))


@pytest.fixture
def scratch(tmp_path: Path) -> ScratchCopy:
    for name in ("defsurvey", "jobs", "workers", "storage", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("*.nb?"))
    return ScratchCopy(tmp_path)


def test_a_method_is_one_file_and_a_name(scratch: ScratchCopy) -> None:
    methods = "workers/simulation/methods"
    (scratch.folder / methods / "neighbour.py").write_text(METHOD)
    base = "from defsurvey.workers.simulation.methods.first_token import FirstToken\n"
    made = "from defsurvey.workers.simulation.methods.neighbour import Neighbour\n"
    scratch.insert(f"{methods}/__init__.py", base, made)
    scratch.insert(f"{methods}/__init__.py", "FirstToken()", ", Neighbour()")
    rows = scratch.answers("uniform", "neighbour")
    assert [(row["condition"], row["state"]) for row in rows] == [("neighbour", "answered")] * 6
    assert "What does your neighbour in United States say?" in scratch.run("preview", "study.yaml")


def test_an_engine_is_one_file_a_line_and_a_card(scratch: ScratchCopy) -> None:
    (scratch.folder / "workers" / "engines" / "last.py").write_text(ENGINE)
    scratch.insert("workers/models.py", "ENGINES: Mapping[str, Capabilities] = {\n", LINE)
    cards = scratch.folder / "workers" / "models.toml"
    cards.write_text(CARD + cards.read_text())
    rows = scratch.answers("last-shown", "none")
    assert [(row["model"], row["state"]) for row in rows] == [("last-shown", "answered")] * 6
    assert "last-shown" in scratch.run("models", "list")
    assert "last-shown" in scratch.run("plan", "study.yaml")


def test_a_column_is_a_field_a_migration_and_what_fills_it(scratch: ScratchCopy) -> None:
    """Answers from before stay; new ones have it in the table, in exports, and in bundles that come in again."""
    before = scratch.answers("uniform", "none")
    scratch.insert("storage/runs/run.py", "    used: UsedDecoding\n    prompt_tokens: int | None = None\n", COLUMN)
    (scratch.folder / "storage/migrations/versions/0011_letters.py").write_text(MIGRATION)
    scratch.insert("workers/simulation/methods/method.py", "        return Answer(\n", FILLED)
    scratch.run("migrate")
    assert list(csv.DictReader(scratch.run("export", "s").splitlines())) == [row | {"letters": ""} for row in before]
    scratch.run("run", "study.yaml", "--name", "after")
    scratch.run("bundle", "export", "after", "after.bundle")
    rows = scratch.run("export", "after", "--format", "jsonl")
    assert {row["letters"] - len(row["completion"]) for row in map(json.loads, rows.splitlines())} == {0}
    assert scratch.run("bundle", "import", "after.bundle", DEFSURVEY_HOME="elsewhere")
    assert scratch.run("export", "after", "--format", "jsonl", DEFSURVEY_HOME="elsewhere") == rows


def test_a_metric_is_a_function_and_a_line(scratch: ScratchCopy) -> None:
    (scratch.folder / "reports" / "metrics" / "commonest.py").write_text(METRIC)
    table = "OF_CELLS: Mapping[tuple[str, str], Callable[[Measured], Figure | None]] = {\n"
    made = '    ("commonest_share", ""): lambda of: Figure(commonest_share(of.cell.counts)),\n'
    scratch.insert("reports/measures.py", table, made)
    known = "from defsurvey.reports.merge import run_of_cells\n"
    scratch.insert("reports/measures.py", known, "from defsurvey.reports.metrics.commonest import commonest_share\n")
    scratch.answers("uniform", "none")
    rows = csv.DictReader(scratch.run("export", "s", "--metrics").splitlines())
    (row,) = [row for row in rows if row["metric"] == "commonest_share"]
    assert (row["model"], row["culture"], row["level"]) == ("uniform", "us", "cell")
    assert 1 / 3 <= float(row["value"]) <= 1


def test_a_verb_is_a_function_and_a_name(scratch: ScratchCopy) -> None:
    verbs = "jobs/cli/runs.py"
    scratch.insert(verbs, "    from defsurvey.storage.database import Database\n", VERB)
    scratch.insert(verbs, "VERBS = (", "count, ")
    scratch.answers("uniform", "none")
    assert "How many answers a run has." in scratch.run("--help")
    assert scratch.run("count", "s") == "s: 6 answers\n"
    assert json.loads(scratch.run("count", "s", "--json")) == {"run": "s", "answers": 6}
    with pytest.raises(AssertionError, match="defsurvey: there is no run 'other'; known: s "):
        scratch.run("count", "other")


def test_a_figure_is_a_file_and_a_name(scratch: ScratchCopy) -> None:
    (scratch.folder / "reports" / "figures" / "unrefused.py").write_text(FIGURE)
    before = "from defsurvey.reports.figures.series import series_section, training_section\n"
    made = "from defsurvey.reports.figures.unrefused import unrefused_section\n"
    scratch.insert("reports/contents.py", before, made)
    scratch.insert("reports/contents.py", "    throughput_section,\n", "    unrefused_section,\n")
    scratch.answers("uniform", "none")
    scratch.run("report", "s", "--output", "report")
    page, text = ((scratch.folder / "report" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert '<section id="unrefused"' in page
    assert "Who refused nothing" in text
    assert "Refusals by model" in text


def test_an_importer_is_a_file_and_a_command(scratch: ScratchCopy) -> None:
    (scratch.folder / "storage" / "surveys" / "importers" / "lines.py").write_text(IMPORTER)
    scratch.insert("jobs/cli/surveys.py", "    _COUNTRIES,\n    _RESPONDENTS,\n)\n", COMMAND)
    (scratch.folder / "lines.txt").write_text("Tea or coffee?|Tea|250|Coffee|750\nWhen?|Early|400|Late|600\n")
    told = scratch.run("survey", "import", "lines", "lines.txt", "--country", "ca", "-o", "drinks", "--id", "drinks")
    assert "drinks: 2 questions, 2 reference distributions" in told
    study = "{name: d, survey: drinks, questions: all, cultures: [ca], models: [human], conditions: [none], "
    (scratch.folder / "drinks.yaml").write_text(study + "participants: 4}")
    scratch.run("run", "drinks.yaml")
    rows = csv.DictReader(scratch.run("export", "d").splitlines())
    assert sorted(row["question"] for row in rows) == ["L1"] * 4 + ["L2"] * 4
