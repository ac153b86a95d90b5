"""The verbs that make surveys: import, template, exclude."""

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
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["survey", *words])


def test_an_official_file_becomes_a_survey(here: Path) -> None:
    (here / "wvs.csv").write_text(WVS, encoding="utf-8")
    made = run("import", "wvs", "wvs.csv", "--countries", "USA, DEU", "-o", "us-de")
    assert made.exit_code == 0
    assert made.stdout.startswith("us-de: 1 questions, 12 reference distributions\ncultures: us, de\n")
    assert "no wording in the language of Germany (de): they are asked in en" in made.stdout
    assert run("validate", "us-de").exit_code == 0
    assert "Q1" in run("show", "us-de").stdout


def test_programs_read_json(here: Path) -> None:
    (here / "wvs.csv").write_text(WVS, encoding="utf-8")
    told = json.loads(run("import", "wvs", "wvs.csv", "-o", "my survey", "--json").stdout)
    expected = {"id": "my-survey", "questions": 1, "cultures": ["us", "de"], "folder": "my survey"}
    assert expected.items() <= told.items()
    assert len(told["fingerprint"]) == 64
    (here / "g.csv").write_text(GLOBAL, encoding="utf-8")
    other = json.loads(run("import", "globalopinions", "g.csv", "-o", "g", "--id", "opinions", "--json").stdout)
    assert (other["id"], other["references"]) == ("opinions", 1)


#: A text export of a country that made no weights, as the official ones are: headers with titles, labels for codes.
TEXT_EXPORT = {
    "B_COUNTRY_ALPHA ISO 3166-1 alpha-3 country code": ["EGY"] * 4,
    "D_INTERVIEW Interview ID": ["818070001", "818070002", "818070003", "-4"],
    "W_WEIGHT Weight": ["No weighting"] * 4,
    "Q106 Incomes": ["Incomes should be made more equal", "There should be greater incentives...", "5", "5"],
    "Q107 Private vs state ownership of business": ["Don't -9:-2", "3", "3", "4"],
    "Q109 Competition": ["Competition is good{1}", "Competition is harmful{10}", "Competition good", "2"],
    "Q112 Corruption": ["10 There is abundant corruption in my country", "1 There is no corruption", "9", "-1"],
    "Q260 Sex": ["Male", "Female", "Female", "Male"],
}


def text_export(**changed: list[str]) -> str:
    columns = {name: changed.get(name.split()[0], cells) for name, cells in TEXT_EXPORT.items()}
    kept = {name: cells for name, cells in columns.items() if cells}
    rows = [list(kept), *zip(*kept.values(), strict=True)]
    return "".join(";".join(f'"{cell}"' for cell in row) + "\n" for row in rows)


def test_a_text_export_tells_what_it_was_read_as(here: Path) -> None:
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
    shares = {q.id: survey.reference(q.id, "eg").shares for q in survey.questions}
    assert shares["Q106"] == pytest.approx({code: {1: 0.25, 5: 0.5, 10: 0.25}.get(code, 0) for code in range(1, 11)})
    assert (shares["Q107"][3], shares["Q109"][1], shares["Q112"][10]) == pytest.approx((2 / 3, 0.5, 1 / 3))
    assert "without weights" in survey.references[0].source
    told = json.loads(run("import", "wvs", "egypt.csv", "-o", "again", "--json").stdout)
    assert {"columns": ["Q109"], "value": "Competition is harmful{10}", "code": 10, "label": "Competition is harmful",
            "respondents": 1} in told["matched"]  # fmt: skip
    assert len(told["matched"]) == 6


def test_an_interview_that_stands_twice_is_refused(here: Path) -> None:
    (here / "egypt.csv").write_text(text_export(D_INTERVIEW=["7", "8", "-4", "7"]), encoding="utf-8")
    refused = run("import", "wvs", "egypt.csv", "-o", "eg")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "line 5, column 2, D_INTERVIEW: expected every interview once; take the repeated rows" in refused.stderr
    assert refused.stderr.endswith("got '7' again, first on line 2\n")
    assert not (here / "eg").exists()


def test_the_template_is_imported(here: Path) -> None:
    assert run("template", "mine.csv").exit_code == 0
    assert run("import", "table", "mine.csv", "-o", "mine", "--title", "Mine").exit_code == 0
    assert "title: Mine" in (here / "mine" / "survey.yaml").read_text(encoding="utf-8")
    assert run("template", "mine.csv").exit_code == 2


def test_the_papers_dataset_is_imported(here: Path) -> None:
    (here / "data").mkdir()
    (here / "data" / "English_questionaires.txt").write_text("[2] Q? - 1: a, 2: b\n[2] R? - 1: a, 2: b\n")
    (here / "data" / "usa_ref_score_all.csv").write_text(",0,1,2\n1,0,30,70\n2,0,60,50\n", encoding="utf-8")
    made = run("import", "def", "data", "--multiple", "2", "--respondents", "400", "-o", "def")
    assert made.exit_code == 0, made.output
    assert "US_survey: 2 questions, 1 of them lists (2)" in made.stdout
    assert run("import", "def", "data", "--multiple", "two", "-o", "other").exit_code == 2
    assert not (here / "other").exists()


def test_questions_are_excluded_with_a_reason(here: Path) -> None:
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
questions: [T1, T2]
cultures: [us]
models: [human]
conditions: [none]
"""


@pytest.mark.parametrize("words", ["plan study.yaml", "survey rephrase mine --model parrot --questions T2"])
def test_who_names_an_excluded_question_hears_the_reason(here: Path, words: str) -> None:
    run("template", "mine.csv")
    run("import", "table", "mine.csv", "-o", "mine")
    run("exclude", "mine", "T2", "--reason", "asks for a fact")
    (here / "study.yaml").write_text(STUDY, encoding="utf-8")
    (here / "cards.toml").write_text('[parrot]\nhub = "nobody/nothing"\n', encoding="utf-8")
    places = {"DEFSURVEY_HOME": str(here / "home"), "DEFSURVEY_MODELS": str(here / "cards.toml")}
    refused = CliRunner().invoke(main, words.split(), env=places)
    assert refused.exit_code == 2
    assert "asks for a fact" in refused.stderr
    assert "did you mean" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_file_that_is_none_is_one_line(here: Path) -> None:
    """As with a folder of the paper's dataset: what was expected and what was got, and exit code 2."""
    (here / "folder").mkdir()
    (here / "some.csv").write_text(WVS, encoding="utf-8")
    for words, told in (
        (("none.csv",), "none.csv: expected a file, got nothing"),
        (("folder",), "folder: expected a file, got a folder"),
        (("some.csv", "--cultures", "others.csv"), "others.csv: expected a file, got nothing"),
    ):
        result = run("import", "wvs", *words, "-o", "x")
        assert (result.exit_code, result.stderr) == (2, f"defsurvey: {told}\n")
    assert run("import", "def", "none", "-o", "x").stderr == "defsurvey: none: expected a folder, got nothing\n"
