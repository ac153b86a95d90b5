"""GlobalOpinionQA: shares by country come back; texts are read as values and never run."""

import csv
from pathlib import Path

import pytest

from defsurvey.storage.surveys.importers.globalopinions import import_globalopinions
from defsurvey.storage.surveys.problem import SurveyError, UnknownName
from defsurvey.storage.surveys.survey import QuestionType

MANY = (
    "defaultdict(<class 'list'>, {'Germany': [0.25, 0.65, 0.1], "
    "'S. Korea': [0.5, 0.5, 0.0], 'Britain': [0.3, 0.3, 0.4]})"
)
ROWS = [
    ("Do you think  things are going well?", MANY, "['Yes', 'No', 'DK/Refused']", "GAS"),
    ("How much?", "{'Germany': [0.1, 0.2, 0.3, 0.4], 'Narnia': [1.0, 0.0, 0.0, 0.0]}", "[1.0, 2.0, 3.0, 4.0]", "WVS"),
    ("Which?", "{'India (Non-national sample)': [0.2, 0.8], 'India': [0.9, 0.1]}", "('a', 'b')", "GAS"),
    ("Nobody fits?", "{'Germany': [0.2, 0.3], 'France': [0.2, 0.2, 0.2]}", "['a', 'b', 'c']", "GAS"),
    ("The same twice?", "{'Germany': [0.5, 0.5]}", "['Agree', 'agree']", "GAS"),
]


def write(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "selections", "options", "source"])
        writer.writerows(rows)
    return path


def test_shares_come_back_without_those_who_did_not_answer(tmp_path: Path) -> None:
    imported = import_globalopinions(write(tmp_path / "g.csv", ROWS), id="global", respondents=800)
    survey = imported.write(tmp_path / "global")
    assert [q.id for q in survey.questions] == ["G1", "G2", "G3"]
    first = survey.question("G1")
    assert (first.text["en"], first.topic) == ("Do you think things are going well?", "Global Attitudes Survey")
    assert [option.label["en"] for option in first.options] == ["Yes", "No"]
    assert survey.reference("G1", "de").shares == pytest.approx({1: 0.25 / 0.9, 2: 0.65 / 0.9})
    assert survey.reference("G1", "gb").shares == {1: 0.5, 2: 0.5}
    korea = survey.reference("G1", "kr")
    assert (korea.n, korea.low_n) == (800, False)
    assert korea.source == "GlobalOpinionQA, S. Korea; number of respondents not given, 800 assumed"
    scale = survey.question("G2")
    assert (scale.type, scale.codes) == (QuestionType.SCALE, (1, 2, 3, 4))
    assert {culture.spoken for culture in survey.cultures} == {"de", "ko", "", "hi"}
    notes = " ".join(imported.notes)
    assert "G4 Germany, G4 France" in notes
    assert "Narnia" in notes
    assert "1 questions without 2 to 63 different options left out: G5" in notes


@pytest.mark.parametrize(
    ("labels", "codes", "noted"),
    [
        (["None", "1", "2", "3 or more"], (0, 1, 2, 3), False),
        (["2", "3", "Other", "DK"], (2, 3, 4), False),
        (["Other", "0", "1"], (1, 2, 3), True),
    ],
)
def test_options_that_are_numbers_keep_them(
    tmp_path: Path, labels: list[str], codes: tuple[int, ...], noted: bool
) -> None:
    rows = [("How many?", str({"Germany": [1 / len(labels)] * len(labels)}), str(labels), "GAS")]
    imported = import_globalopinions(write(tmp_path / "g.csv", rows), id="global")
    question = imported.write(tmp_path / "global").question("G1")
    assert (question.type, question.codes) == (QuestionType.SINGLE, codes)
    note = "a label in G1 is the number of another option: a reply of that number alone is read as that option"
    assert (note in imported.notes) == noted


def test_of_two_samples_of_a_country_the_national_one_counts(tmp_path: Path) -> None:
    imported = import_globalopinions(write(tmp_path / "g.csv", ROWS), id="global", countries=["IND"])
    reference = imported.survey.reference("G3", "in")
    assert (reference.low_n, reference.shares) == (False, {1: 0.9, 2: 0.1})
    assert "1 second samples of a country left out: G3 India (Non-national sample)" in imported.notes
    samples = {"Old national": 0.2, "Non-national": 0.3, "Current national": 0.4}
    shares = {"Germany": [0.5, 0.5], **{f"India ({name} sample)": [p, 1 - p] for name, p in samples.items()}}
    rows = [("Which?", str({**shares, "France": [0.5, 0.5]}), "['a', 'b']", "GAS")]
    imported = import_globalopinions(write(tmp_path / "g.csv", rows), id="global")
    assert [(r.culture, r.shares[1]) for r in imported.survey.references] == [("de", 0.5), ("in", 0.4), ("fr", 0.5)]
    (told,) = [note for note in imported.notes if "second samples" in note]
    assert told.endswith("left out: G1 India (Old national sample), G1 India (Non-national sample)")
    rows = [("Which?", "{'India (Non-national sample)': [0.2, 0.8]}", "('a', 'b')", "GAS")]
    (alone,) = import_globalopinions(write(tmp_path / "g.csv", rows), id="global").survey.references
    assert (alone.low_n, alone.shares) == (True, {1: 0.2, 2: 0.8})


def test_words_for_missing_answers_are_no_options(tmp_path: Path) -> None:
    labels = [
        "Yes",
        "No",
        "Inappropriate",
        "Other missing; Multiple answers Mail (EVS)",
        "INAP; not asked",
        "Don´t know",
    ]
    rows = [("Is it?", str({"Germany": [0.4, 0.3, 0.1, 0.1, 0.05, 0.05]}), str(labels), "WVS")]
    survey = import_globalopinions(write(tmp_path / "g.csv", rows), id="global").survey
    assert [option.label["en"] for option in survey.question("G1").options] == labels[:3]
    assert survey.reference("G1", "de").shares == pytest.approx({1: 0.5, 2: 0.375, 3: 0.125})


def test_chosen_countries_share_their_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", ROWS)
    survey = import_globalopinions(path, id="global", countries=["Germany", "KOR"]).survey
    assert [question.id for question in survey.questions] == ["G1"]
    assert [culture.code for culture in survey.cultures] == ["de", "kr"]
    with pytest.raises(SurveyError, match=r"g\.csv: expected a question that Germany, India were all asked, got none"):
        import_globalopinions(path, id="global", countries=["DEU", "IND"])
    with pytest.raises(UnknownName, match="Narnia"):
        import_globalopinions(path, id="global", countries=["Narnia"])


@pytest.mark.parametrize(
    ("selections", "options", "expected"),
    [
        ("__import__('os').mkdir('x')", "['a', 'b']", "line 2, column 2, selections: expected a list or dict of plain"),
        ("{'Germany': [1.5, 0.5]}", "['a', 'b']", "selections: expected a country: [share, ...] for each country"),
        ("{'Germany': [0.5, 0.5]}", "[open('x'), 'b']", "line 2, column 3, options: expected a list or dict of plain"),
        ("(" * 5000, "['a', 'b']", "selections: expected a list or dict of plain values"),
    ],
)
def test_what_is_no_value_is_told_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selections: str, options: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "g.csv", [("Why?", selections, options, "GAS")])
    with pytest.raises(SurveyError) as error:
        import_globalopinions(path, id="global").write(tmp_path / "global")
    assert expected in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["g.csv"]


def test_missing_columns_and_texts_are_told(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("question,answers\nWhy?,1\n", encoding="utf-8")
    with pytest.raises(SurveyError, match="line 1, header: expected a column 'selections'"):
        import_globalopinions(path, id="global")
    with pytest.raises(SurveyError, match="line 2, column 1, question: expected a text, got nothing"):
        import_globalopinions(write(path, [(" ", "{}", "[]", "GAS")]), id="global")
