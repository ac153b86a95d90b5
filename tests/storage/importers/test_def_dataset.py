"""The dataset of Liu et al. (2025), in a copy made up here: its questions and figures come back."""

import zipfile
from pathlib import Path

import openpyxl
import pytest

from defsurvey.storage.surveys.importers.def_dataset import import_def, read_questionnaire, read_types
from defsurvey.storage.surveys.importers.files import read_sheet
from defsurvey.storage.surveys.problem import SurveyError, UnknownName
from defsurvey.storage.surveys.survey import Group, QuestionType

ENGLISH = """\
[4] How much do you like tea in [COUNTRY]? - 1: Very much, 2: Much, or rather much, 3: A little, 4: Not at all
[3] Which of these do you drink? Choose up to two. - 1: Tea. 2: Coffee. 3: Milk, cold
[10] On a scale of 1 to 10, how sweet should tea be?
[10] On a scale of 1 - 10, how strong? 0 means that you drink none.
[2] And after [PREVIOUS CHIOCE]? -1.Yes.2.No
"""
CHINESE = """\
[4]在[COUNTRY]，您有多喜欢喝茶？ - 1：非常喜欢，2：比较喜欢，3：有点喜欢，4：不喜欢
[3]下列哪些是您喝的？最多选两项。 - 1：茶，2：咖啡，3：牛奶
[10]从1到10，茶应该多甜？
[10]从1到10，茶应该多浓？
[2]那么在[PREVIOUS CHIOCE]之后呢？ - 1：是，2：否
"""
SCORES = """\
,0,1,2,3,4,5,6,7,8,9,10,11,12
0,0,0,0,0,0,0,0,0,0,0,0,0,0
1,0,10,20,30,40,0,0,0,0,0,0,0,7
2,0,60,30,10,0,0,0,0,0,0,0,0,0
3,0,10,10,10,10,10,10,10,10,10,10,0,0
4,47,5,5,5,5,5,5,5,5,5,5,3,0
5,0,75,25,,,,,,,,,,
"""
PEOPLE = """\
,1,2-1,2-2,2-3,3,notes
0,1,1,2,2,10,x
1,2,1,1,2,-1,y
2,2,2,2,1,5,z
3,,,,,5,
"""


def dataset(folder: Path, *, both: bool = True, people: bool = True) -> Path:
    root = folder / "AECE_v1"
    us = root / "Originals" / "US_survey"
    for place in (root / "preferences", us / "Characters", us / "result_database"):
        place.mkdir(parents=True)
    (root / "English_questionaires.txt").write_text(ENGLISH, encoding="utf-8")
    (root / "zh_English_questionaires.txt").write_text(CHINESE, encoding="utf-8")
    (root / "Chinese_questionaires.txt").write_text(CHINESE, encoding="utf-8")
    if both:
        (root / "en_Chinese_questionaires.txt").write_text(ENGLISH, encoding="utf-8")
    (root / "preferences" / "usa_ref_score_all.csv").write_text(SCORES, encoding="utf-8")
    (root / "preferences" / "zh_ref_score_all.csv").write_text(SCORES.replace("75,25", "25,75"), encoding="utf-8")
    if people:
        (us / "Characters" / "final_all.csv").write_text(PEOPLE, encoding="utf-8")
        (us / "Characters" / "final_female.csv").write_text(PEOPLE, encoding="utf-8")
    types: list[list[object]] = [[1, "a", "IVR"], [2, "b", "Tradition"], [3, "c", "New one"], [4, "d", None]]
    for path in (us / "result_database" / "Question_type.xlsx", us / "Character.xlsx"):
        book(path, [["id", "question", "value type"], *types])
    return folder


def test_questions_and_scores_come_back(tmp_path: Path) -> None:
    imported = import_def(dataset(tmp_path / "in", people=False), id="def", multiple=[])
    survey = imported.write(tmp_path / "def")
    assert [q.id for q in survey.questions] == [f"{part}{n}" for part in ("US", "CN") for n in range(1, 6)]
    assert survey.languages == ("en", "zh")
    first = survey.question("US1")
    assert first.text == {"en": "How much do you like tea in United States?", "zh": "在美国，您有多喜欢喝茶？"}
    assert survey.question("CN1").text["en"] == "How much do you like tea in China?"
    labels = [option.label["en"] for option in first.options]
    assert labels == ["Very much", "Much, or rather much", "A little", "Not at all"]
    assert first.type is QuestionType.SINGLE
    assert survey.question("US5").text["en"] == "And after your answer to the question before?"
    assert survey.question("US5").option(2).label == {"en": "No", "zh": "否"}
    one = survey.reference("US1", "us")
    assert (one.n, one.shares) == (1000, pytest.approx({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}))
    assert survey.reference("US1", "cn") is None
    assert survey.reference("CN5", "cn").shares == {1: 0.25, 2: 0.75}
    listed = survey.question("US2")
    assert (listed.type, listed.max_choices) == (QuestionType.MULTIPLE, 2)
    assert survey.reference("US2", "us").shares == pytest.approx({1: 0.6, 2: 0.3, 3: 0.1})
    assert survey.question("US3").codes == tuple(range(1, 11))
    assert survey.question("US4").codes == tuple(range(11))
    assert survey.reference("US4", "us").shares[0] == pytest.approx(47 / 97)
    assert (first.dimensions, listed.dimensions, survey.question("US3").dimensions) == (("IVR",), ("TDI",), ("NEWONE",))
    assert survey.dimensions["TDI"]["zh"] == "传统"
    notes = " ".join(imported.notes)
    assert "US_survey: failures in column 12 left out: 7" in notes
    assert "US_survey: scores on codes that are no option left out: 3" in notes
    assert "US_survey: Character.xlsx passed over" in notes
    assert "1000 respondents assumed behind each" in notes


def test_regions_are_those_of_the_bundled_survey(tmp_path: Path) -> None:
    """The dataset has none; its code draws 50 states and 23 provinces, which the bundled survey marks."""
    survey = import_def(dataset(tmp_path / "in"), id="def").write(tmp_path / "def")
    for code, count in (("us", 50), ("cn", 23)):
        assert sum(region.uniform for region in survey.culture(code).regions) == count
    one = import_def(dataset(tmp_path / "one", both=False), id="one", part="CN_survey").write(tmp_path / "cn")
    assert {tuple(region.name) for region in one.culture("cn").regions} == {("zh",)}


def test_respondents_make_groups_and_lists(tmp_path: Path) -> None:
    survey = import_def(dataset(tmp_path / "in"), id="def", part="US_survey").write(tmp_path / "def")
    assert [culture.code for culture in survey.cultures] == ["us"]
    everyone, women = survey.reference("US2", "us"), survey.reference("US2", "us", Group.FEMALE)
    assert (everyone.n, women.n) == (3, 3)
    assert women.shares == pytest.approx({1: 2 / 3, 2: 1 / 3, 3: 1 / 3})
    single = survey.reference("US1", "us", Group.FEMALE)
    assert (single.n, single.low_n, single.source) == (3, True, "Dataset of Liu et al. (2025), final_female.csv")
    assert single.shares == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 0, 4: 0})
    assert survey.reference("US3", "us", Group.FEMALE).shares[5] == pytest.approx(2 / 3)
    assert survey.reference("US5", "us", Group.FEMALE) is None


def test_counts_are_respondents(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", people=False)
    path = folder / "AECE_v1" / "preferences" / "usa_ref_score_all.csv"
    path.write_text(",0,1,2,3,4\n0,0,0,0,0,0\n1,0,20,40,60,80\n2,0,150,50,10,0\n5,0,30,10,0,0\n", encoding="utf-8")
    imported = import_def(folder, id="def", part="US_survey")
    survey = imported.write(tmp_path / "def")
    found = {q.id: survey.reference(q.id, "us") for q in survey.questions}
    assert {name: reference.n for name, reference in found.items() if reference} == {"US1": 200, "US2": 200, "US5": 40}
    assert found["US2"].shares == pytest.approx({1: 0.75, 2: 0.25, 3: 0.05})
    assert any("2 questions have no reference scores and cannot be asked: US3, US4" in note for note in imported.notes)


def test_parts_of_different_languages_are_chosen_from(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in", both=False)
    with pytest.raises(SurveyError, match="got US_survey in en, zh; CN_survey in zh; choose one with --part"):
        import_def(folder, id="def")
    survey = import_def(folder, id="def", part="CN_survey").survey
    assert (survey.languages, survey.cultures[0].name) == (("zh",), {"zh": "中国"})
    with pytest.raises(UnknownName, match=r"got 'CN_surveys' \(did you mean 'CN_survey'\?\)"):
        import_def(folder, id="def", part="CN_surveys")


QUESTIONS, OTHERS = "English_questionaires.txt", "zh_English_questionaires.txt"
FIGURES, ANSWERS = "preferences/usa_ref_score_all.csv", "Originals/US_survey/Characters/final_all.csv"
SWEET, LAST = "[10] On a scale of 1 to", "[2]那么在[PREVIOUS CHIOCE]之后呢？ - 1：是，2：否\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (QUESTIONS, SWEET, "10 On a scale", "line 3: expected [number of options] question"),
        (QUESTIONS, "[PREVIOUS CHIOCE]", "[NAME]", "line 5, column 15: expected no placeholder but"),
        (
            OTHERS,
            "，4：不喜欢",
            "",
            f"line 1: expected the options of line 1 of {QUESTIONS}: [4] 1, 2, 3, 4, got [4] 1,",
        ),
        (OTHERS, LAST, "", f"line 4: expected 5 questions, as in {QUESTIONS}, got 4"),
        (FIGURES, "10,20,30,40", "10,twenty,30,40", "line 3, column 4, 2: expected a number, got 'twenty'"),
        (FIGURES, "\n2,0", "\n1,0", "line 4, column 1: expected the number of a question, each once, got '1'"),
        (FIGURES, "60,30,10,0", "160,30,10,0", "line 4, question 2: expected at most 100 for each option of a list"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, file: str, old: str, new: str, expected: str) -> None:
    folder = dataset(tmp_path / "in")
    path = folder / "AECE_v1" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SurveyError) as error:
        import_def(folder, id="def", part="US_survey").write(tmp_path / "def")
    assert str(error.value).startswith(f"{path.name}, {expected}")
    assert not (tmp_path / "def").exists()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "in")
    secret = tmp_path / "secret.txt"
    secret.write_text(ENGLISH, encoding="utf-8")
    path = folder / "AECE_v1" / "English_questionaires.txt"
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(SurveyError, match=r"English_questionaires\.txt: expected a file within .*, got a link to"):
        import_def(folder, id="def")


def test_files_that_are_missing_or_stand_twice(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="expected a folder, got nothing"):
        import_def(tmp_path / "none", id="def")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SurveyError, match=r"expected English_questionaires\.txt, .* got none"):
        import_def(tmp_path / "empty", id="def")
    folder = dataset(tmp_path / "in")
    (folder / "English_questionaires.txt").write_text(ENGLISH, encoding="utf-8")
    with pytest.raises(SurveyError, match=r"expected one file, got AECE_v1/English_questionaires\.txt, English_quest"):
        import_def(folder, id="def")


def test_blank_lines_are_no_questions(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("\n[2] A? - 1: a, 2: b\n\n[2] B? - 1: a, 2: b\n\n", encoding="utf-8")
    lines = read_questionnaire(path, language="en", country={"en": "X"})
    assert [(line.line, line.text) for line in lines] == [(2, "A?"), (4, "B?")]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("[3] Q? - 1: Yes, 2: No, never, 3: 2 to 4 times", {1: "Yes", 2: "No, never", 3: "2 to 4 times"}),
        ("[2] Q? - 1.Yes.2.No", {1: "Yes", 2: "No"}),
        ("[2] Well-known or not - really? - 1: Yes, 2: No", {1: "Yes", 2: "No"}),
        ("[10] From 1- 10: how much?", {}),
    ],
)
def test_separators(tmp_path: Path, text: str, options: dict[int, str]) -> None:
    path = tmp_path / "q.txt"
    path.write_text(text, encoding="utf-8")
    [line] = read_questionnaire(path, language="en", country={"en": "X"})
    assert line.options == options


@pytest.mark.parametrize(
    ("text", "most"), [("Pick at most three.", 3), ("最多选择五项。", 5), ("Are you up to date?", None)]
)
def test_how_many_may_be_chosen(tmp_path: Path, text: str, most: int | None) -> None:
    path = tmp_path / "q.txt"
    path.write_text(f"[2] {text} - 1: a, 2: b", encoding="utf-8")
    [line] = read_questionnaire(path, language="en", country={"en": "X"})
    assert (line.said_most, line.said_multiple) == (most, most is not None)


def book(path: Path, rows: list[list[object]]) -> Path:
    made = openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    made.save(path)
    return path


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(65 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(SurveyError, match="expected a workbook that unpacks to at most 64 MiB, got 65 MiB"):
        list(read_sheet(path))


def test_entities_do_not_unfold(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    path = tmp_path / "laughs.xlsx"
    with zipfile.ZipFile(book(tmp_path / "b.xlsx", [[1]])) as whole, zipfile.ZipFile(path, "w") as archive:
        for part in whole.namelist():
            text = whole.read(part)
            if part == "xl/worksheets/sheet1.xml":
                text = f'<!DOCTYPE a [<!ENTITY e0 "{"ha" * 50}">{entities}]>'.encode() + text
            archive.writestr(part, text.replace(b"<v>", b"<v>&e11;", 1))
    with pytest.raises(SurveyError, match=r"expected an Excel workbook \(\.xlsx\), got ParseError: limit on"):
        list(read_sheet(path))


def test_what_is_no_workbook(tmp_path: Path) -> None:
    path = tmp_path / "b.xlsx"
    path.write_text("id,value type\n", encoding="utf-8")
    with pytest.raises(SurveyError, match=r"b\.xlsx: expected an Excel workbook \(\.xlsx\), got"):
        list(read_sheet(path))


def test_types_without_their_column(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match=r"b\.xlsx, line 1, header: expected a column 'value type', got id, type"):
        read_types(book(tmp_path / "b.xlsx", [["id", "type"]]))
    with pytest.raises(SurveyError, match=r"b\.xlsx, line 2, id: expected the number of a question, got 'one'"):
        read_types(book(tmp_path / "b.xlsx", [["id", "value type"], ["one", "EVI"]]))
    assert read_types(book(tmp_path / "c.xlsx", [["value type"], ["evi"], ["Masculinity"]])) == {1: "EVI", 2: "MAS"}
