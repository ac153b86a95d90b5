"""The verbs that make surveys: import, template, exclude."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobs.cli import main
from jobs.cli_import import exclude
from storage import survey_write
from storage.survey import Survey

WVS = "B_COUNTRY_ALPHA,W_WEIGHT,Q260,Q262,Q1\n" + "".join(
    f"{country},1.5,{1 + number % 2},{20 + number},{1 + number % 4}\n"
    for country in ("USA", "DEU")
    for number in range(60)
)
GLOBAL = "question,selections,options,source\nWhy?,\"{'Germany': [0.4, 0.6]}\",\"['a', 'b']\",GAS\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    """A call of the command line."""
    return CliRunner().invoke(main, ["survey", *words])


def test_an_official_file_becomes_a_survey(here: Path) -> None:
    """The folder can be validated and shown at once; what was left out and assumed is told."""
    (here / "wvs.csv").write_text(WVS, encoding="utf-8")
    made = run("import", "wvs", "wvs.csv", "--countries", "USA, DEU", "-o", "us-de")
    assert made.exit_code == 0
    assert made.stdout.startswith("us-de: 1 questions, 12 reference distributions\ncultures: us, de\n")
    assert "no wording in the language of Germany (de): they are asked in en" in made.stdout
    assert run("validate", "us-de").exit_code == 0
    assert "Q1" in run("show", "us-de").stdout


def test_programs_read_json(here: Path) -> None:
    """What was made, as JSON; the id is the folder's name, or given."""
    (here / "wvs.csv").write_text(WVS, encoding="utf-8")
    told = json.loads(run("import", "wvs", "wvs.csv", "-o", "my survey", "--json").stdout)
    assert (told["id"], told["questions"], told["cultures"], told["folder"]) == (
        "my-survey",
        1,
        ["us", "de"],
        "my survey",
    )
    assert len(told["fingerprint"]) == 64
    (here / "g.csv").write_text(GLOBAL, encoding="utf-8")
    other = json.loads(run("import", "globalopinions", "g.csv", "-o", "g", "--id", "opinions", "--json").stdout)
    assert (other["id"], other["references"]) == ("opinions", 1)


def test_the_template_is_imported(here: Path) -> None:
    """From nothing to a survey in two commands."""
    assert run("template", "mine.csv").exit_code == 0
    made = run("import", "table", "mine.csv", "-o", "mine", "--title", "Mine")
    assert made.exit_code == 0
    assert "title: Mine" in (here / "mine" / "survey.yaml").read_text(encoding="utf-8")
    assert run("template", "mine.csv").exit_code == 2


def test_the_papers_dataset_is_imported(here: Path) -> None:
    """One part of it, with a list that the user names."""
    (here / "data").mkdir()
    (here / "data" / "English_questionaires.txt").write_text(
        "[2] Q? - 1: a, 2: b\n[2] R? - 1: a, 2: b\n", encoding="utf-8"
    )
    (here / "data" / "usa_ref_score_all.csv").write_text(",0,1,2\n1,0,30,70\n2,0,60,50\n", encoding="utf-8")
    made = run("import", "def", "data", "--multiple", "2", "--respondents", "400", "-o", "def")
    assert made.exit_code == 0, made.output
    assert "US_survey: 2 questions, 1 of them lists (2)" in made.stdout
    assert run("import", "def", "data", "--multiple", "two", "-o", "other").exit_code == 2
    assert not (here / "other").exists()


def test_questions_are_excluded_with_a_reason(here: Path) -> None:
    """They are listed, not asked, and taken in again."""
    run("template", "mine.csv")
    run("import", "table", "mine.csv", "-o", "mine")
    assert "T2  unclear\n1 excluded, 3 left" in run("exclude", "mine", "T2", "--reason", "unclear").stdout
    assert json.loads(run("exclude", "mine", "--json").stdout) == {"T2": "unclear"}
    assert run("exclude", "mine", "T1").exit_code == 2
    assert run("exclude", "mine", "T9", "--reason", "x").exit_code == 2
    assert "0 excluded, 4 left" in run("exclude", "mine", "--restore", "T2").stdout


STUDY = """\
name: mine
survey: ./mine
questions: [T1, T3]
cultures: [us]
models: [human]
conditions: [none]
"""


@pytest.mark.parametrize(
    ("words", "questions"),
    [
        (("plan", "study.yaml"), "[T1, T2]"),
        (("run", "study.yaml"), "[T1, T2]"),
        (("preview", "study.yaml", "--question", "T2"), "[T1, T3]"),
        (("survey", "show", "mine", "--question", "T2"), "all"),
        (("survey", "rephrase", "mine", "--model", "smollm2-135m-instruct", "--questions", "T2"), "all"),
    ],
)
def test_who_names_an_excluded_question_hears_the_reason(here: Path, words: tuple[str, ...], questions: str) -> None:
    """Every command that takes a question by name tells why it is not there, and guesses no other."""
    run("template", "mine.csv")
    run("import", "table", "mine.csv", "-o", "mine")
    run("exclude", "mine", "T2", "--reason", "asks for a fact")
    (here / "study.yaml").write_text(STUDY.replace("[T1, T3]", questions), encoding="utf-8")
    refused = CliRunner().invoke(main, list(words), env={"DEFSURVEY_HOME": str(here / "home")})
    assert refused.exit_code == 2
    assert "asks for a fact" in refused.stderr
    assert "did you mean" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_two_that_exclude_at_once_lose_neither(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each adds to what it has read: the second reads when the first has written."""
    run("template", "mine.csv")
    run("import", "table", "mine.csv", "-o", "mine")
    read, both = survey_write.read_survey, threading.Barrier(2, timeout=0.3)

    def read_beside_another(folder: Path) -> Survey:
        survey = read(folder)
        with suppress(threading.BrokenBarrierError):
            both.wait()
        return survey

    def leave_out(question: str) -> None:
        assert exclude.callback is not None
        exclude.callback(folder=Path("mine"), questions=(question,), reason="unclear", restore=None, as_json=False)

    monkeypatch.setattr(survey_write, "read_survey", read_beside_another)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(leave_out, ("T1", "T2")))
    assert read(Path("mine")).excluded == {"T1": "unclear", "T2": "unclear"}


def test_a_folder_that_is_only_looked_at_is_left_as_it_is(here: Path) -> None:
    """It may be another's, or not be there: what is excluded is listed, or the mistake is told, and nothing is made."""
    run("template", "mine.csv")
    run("import", "table", "mine.csv", "-o", "mine")
    before = sorted(here.rglob("*"))
    assert "0 excluded, 4 left" in run("exclude", "mine").stdout
    assert run("exclude", "mien", "T1", "--reason", "unclear").exit_code == 2
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("source", ["wvs", "globalopinions", "table"])
def test_a_file_that_is_none_is_one_line(here: Path, source: str) -> None:
    """As with a folder of the paper's dataset: what was expected and what was got, and exit code 2."""
    (here / "folder").mkdir()
    (here / "some.csv").write_text(WVS, encoding="utf-8")
    for words, told in (
        (("none.csv",), "none.csv: expected a file, got nothing"),
        (("folder",), "folder: expected a file, got a folder"),
        (("some.csv", "--cultures", "others.csv"), "others.csv: expected a file, got nothing"),
    ):
        result = run("import", source, *words, "-o", "x")
        assert (result.exit_code, result.stderr) == (2, f"defsurvey: {told}\n")
    assert run("import", "def", "none", "-o", "x").stderr == "defsurvey: none: expected a folder, got nothing\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            WVS.replace(",1.5,1,20", ",heavy,1,20"),
            "line 2, column 2, W_WEIGHT: expected a weight, 0 or more, got 'heavy'",
        ),
        (WVS.replace(",", "^"), "line 1: expected columns separated by"),
    ],
)
def test_what_is_wrong_is_one_line(here: Path, text: str, expected: str) -> None:
    """Bad input is a line on stderr and exit code 2; no folder is left."""
    (here / "wvs.csv").write_text(text, encoding="utf-8")
    result = run("import", "wvs", "wvs.csv", "-o", "x")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"defsurvey: wvs.csv, {expected}")
    assert result.stderr.count("\n") == 1
    assert [entry.name for entry in here.iterdir()] == ["wvs.csv"]
