"""The verbs that make surveys: import, template, exclude."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.storage.surveys.folder import read_survey

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


#: A text export of a country that made no weights, as the official ones are: headers with titles, labels for codes.
TEXT_EXPORT = {
    "B_COUNTRY_ALPHA ISO 3166-1 alpha-3 country code": ["EGY"] * 4,
    "D_INTERVIEW Interview ID": ["818070001", "818070002", "818070003", "-4"],
    "W_WEIGHT Weight": ["No weighting"] * 4,
    "Q106 Income equality vs larger income differences": [
        "Incomes should be made more equal",
        "There should be greater incentives for individual effort",
        "5",
        "5",
    ],
    "Q107 Private vs state ownership of business": ["Don't -9:-2", "3", "3", "4"],
    "Q109 Competition good or harmful": [
        "Competition is good{1}",
        "Competition is harmful{10}",
        "Competition good",
        "2",
    ],
    "Q112 Perceptions of corruption": [
        "10 There is abundant corruption in my country",
        "1 There is no corruption in my country",
        "9",
        "Don't know",
    ],
    "Q260 Sex": ["Male", "Female", "Female", "Male"],
}


def text_export(**changed: list[str]) -> str:
    """The text export, some of its columns with other cells; none for a column that is left out."""
    columns = {name: changed.get(name.split()[0], cells) for name, cells in TEXT_EXPORT.items()}
    kept = {name: cells for name, cells in columns.items() if cells}
    rows = [list(kept), *zip(*kept.values(), strict=True)]
    return "".join(";".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def test_a_text_export_tells_what_it_was_read_as(here: Path) -> None:
    """Labels in other words are read; each, the missing weights and the missing ages are told."""
    (here / "egypt.csv").write_text("\ufeff" + text_export(), encoding="utf-8")
    made = run("import", "wvs", "egypt.csv", "-o", "eg")
    assert made.exit_code == 0, made.output
    for note in (
        "- W_WEIGHT is 'No weighting', each respondent counts as 1: eg 4",
        '- label "Don\'t -9:-2" read as a missing answer: 1 answers to Q107',
        "- label 'Competition is good{1}' read as 1 'Competition is good': 1 answers to Q109",
        "- label 'Competition good' read as 1 'Competition is good': 1 answers to Q109",
        "- label '10 There is abundant corruption in my country' read as 10 'There is abundant corruption...'",
        "- no distributions by age for eg: there is no column X003R2 or Q262",
    ):
        assert note in made.stdout
    assert "no distributions by sex" not in made.stdout
    survey = read_survey(here / "eg")
    shares = {q.id: survey.reference(q.id, "eg").shares for q in survey.questions}  # type: ignore[union-attr]
    assert shares["Q106"] == pytest.approx({code: {1: 0.25, 5: 0.5, 10: 0.25}.get(code, 0) for code in range(1, 11)})
    assert (shares["Q107"][3], shares["Q109"][1], shares["Q112"][10]) == pytest.approx((2 / 3, 0.5, 1 / 3))
    assert "without weights" in survey.references[0].source
    told = json.loads(run("import", "wvs", "egypt.csv", "-o", "again", "--json").stdout)
    assert {"columns": ["Q109"], "value": "Competition is harmful{10}", "code": 10, "label": "Competition is harmful",
            "respondents": 1} in told["matched"]  # fmt: skip
    assert len(told["matched"]) == 6


def test_an_interview_that_stands_twice_is_refused(here: Path) -> None:
    """In one line; no folder is made."""
    (here / "egypt.csv").write_text(text_export(D_INTERVIEW=["7", "8", "-4", "7"]), encoding="utf-8")
    refused = run("import", "wvs", "egypt.csv", "-o", "eg")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "line 5, column 2, D_INTERVIEW: expected every interview once; take the repeated rows" in refused.stderr
    assert refused.stderr.endswith("got '7' again, first on line 2\n")
    assert not (here / "eg").exists()


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
