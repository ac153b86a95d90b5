"""Tables in long form: what they hold comes back, and what is wrong is told where it stands."""

from pathlib import Path

import pytest

from defsurvey.storage.surveys.folder import check_survey
from defsurvey.storage.surveys.importers.table import import_table, write_template
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.survey import Group, QuestionType, Survey

HEAD = "question,type,text_en,code,label_en,culture,n,percent\n"
COUNTED = "question,type,text_en,code,label_en,culture,n,count\n"


def survey_of(tmp_path: Path, text: str) -> Survey:
    path = tmp_path / "house.csv"
    path.write_text(text, encoding="utf-8")
    return import_table(path, id="house").write(tmp_path / "survey")


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(SurveyError) as error:
        survey_of(tmp_path, text)
    assert [entry.name for entry in tmp_path.iterdir()] == ["house.csv"]
    return str(error.value)


def test_the_template_is_a_survey(tmp_path: Path) -> None:
    """What ``survey template`` writes can be imported as it is, and shows every type of question."""
    write_template(tmp_path / "example.csv")
    imported = import_table(
        tmp_path / "example.csv", id="example", title="Example", terms="Free.", citation="Me (2025)."
    )
    survey = imported.write(tmp_path / "example")
    assert check_survey(tmp_path / "example") == []
    assert (survey.title, survey.terms, survey.citation) == ("Example", "Free.", "Me (2025).")
    assert {question.type for question in survey.questions} == set(QuestionType)
    assert survey.languages == ("en", "zh")
    assert [culture.code for culture in survey.cultures] == ["us", "cn"]
    assert survey.dimensions["UAI"]["zh"] == "不确定性规避"
    first = survey.reference("T1", "us", Group.FEMALE)
    assert (first.n, first.source) == (640, "An example: no real figures")
    assert first.shares == pytest.approx({1: 0.251, 2: 0.436, 3: 0.313})
    single = survey.question("T3")
    assert [(option.code, option.residual) for option in single.options] == [(1, False), (2, False), (9, True)]
    listed = survey.question("T4")
    assert (listed.max_choices, listed.dimensions) == (2, ("IVR",))
    assert survey.reference("T4", "cn").shares == pytest.approx({1: 0.44, 2: 0.69, 3: 0.35})
    labels = [option.label["zh"] for option in survey.question("T2").options]
    assert labels == ["一点也不喜欢", "2", "3", "4", "非常喜欢"]
    with pytest.raises(SurveyError, match=r"example\.csv: expected a place where nothing is yet"):
        write_template(tmp_path / "example.csv")


def test_counts_are_shares_of_their_sum(tmp_path: Path) -> None:
    text = COUNTED + "A,single,Yes?,1,Yes,USA,,30\nA,,,2,No,USA,,90\n"
    text += "B,multiple,Which?,1,One,USA,200,150\nB,,,2,Two,USA,200,100\n"
    survey = survey_of(tmp_path, text)
    single, listed = survey.reference("A", "us"), survey.reference("B", "us")
    assert (single.n, single.shares) == (120, {1: 0.25, 2: 0.75})
    assert (listed.n, listed.shares) == (200, {1: 0.75, 2: 0.5})
    assert survey.question("B").max_choices == 2


def test_a_question_to_which_nobody_gave_an_answer_is_told(tmp_path: Path) -> None:
    told = refused(tmp_path, f"{COUNTED}A,single,Yes?,1,Yes,us,900,0\nA,,,2,No,us,900,0\n")
    assert "expected an option of A that somebody chose, got '0 for each of them'" in told


def test_other_delimiters_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows = HEAD + "A,single,Yes?,1,Yes,us,50,40\n,,,,,,,\nA,,,2,No,us,50,60\n , ,,,,,,\n"
    for number, mark in enumerate((";", "\t")):
        (tmp_path / f"{number}.csv").write_text("\ufeff" + rows.replace(",", mark), encoding="utf-8")
        imported = import_table(tmp_path / f"{number}.csv", id="x")
        reference = imported.survey.reference("A", "us")
        assert (reference.shares, reference.low_n) == ({1: 0.4, 2: 0.6}, True)
        assert imported.survey.title == str(number)


GOOD = ["A,single,Yes?,1,Yes,us,500,40", "A,,,2,No,us,500,60"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("A,,,2,No,us,500,sixty", "house.csv, line 3, column 8, percent: expected a number from 0 to 100, got 'sixty'"),
        ("A,,,2,Yes,us,500,60", "house.csv, line 3, column 5, label_en: expected a label of its own, got 'Yes'"),
        ("A,,,1,Yes,us,500,60", "code: expected every option of A, us, all once, got '1 again'"),
        ("A,scale,,2,No,us,500,60", "column 2, type: expected 'single' as on line 2, or nothing, got 'scale'"),
        ("A,,,2,No,Amerika,500,60", "column 6, culture: expected a country that is known; others are added with"),
        ("A,,,2,No,us,500,50", "percent: expected percentages of A that sum to 100 within 1, got '90 in sum'"),
        ("B,choice,Why?,1,No,us,500,60", "type: expected one of single, ordinal, scale, multiple, got 'choice'"),
        ("A,,,2,No\x1b[2J,us,500,60", "column 5, label_en: expected a text without control characters, got 'No\\x1b"),
        ("A,,,2,No,cn,500,60", "expected every option of A for us, all, got 'none for 2'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, row: str, expected: str) -> None:
    assert expected in refused(tmp_path, HEAD + f"{GOOD[0]}\n{row}\n")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (HEAD.replace("text_en", "text"), "column 3, text: expected one of the columns"),
        (HEAD.replace("n,percent", "percent,count"), "expected one of the columns percent and count"),
        (HEAD.replace("n,percent", "source,percent"), "line 1, header: expected a column 'n'"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, head: str, expected: str) -> None:
    assert expected in refused(tmp_path, head + "\n".join(GOOD))


def test_points_of_a_scale_are_in_the_order_of_their_codes(tmp_path: Path) -> None:
    head = HEAD.replace("label_en", "label_en,residual")
    for name, kind in (("A", "scale"), ("B", "ordinal")):
        head += f"{name},{kind},How much?,3,Three,,us,500,40\n{name},,,0,None,yes,us,500,5\n"
        head += f"{name},,,1,Little,,us,500,30\n{name},,,2,Two,,us,500,15\n{name},,,4,Much,,us,500,10\n"
    survey = survey_of(tmp_path, head)
    assert survey.question("A").codes == (1, 2, 3, 4, 0)
    assert survey.question("B").codes == (3, 1, 2, 4, 0)
    assert survey.reference("A", "us").shares == {1: 0.3, 2: 0.15, 3: 0.4, 4: 0.1, 0: 0.05}


VALUED = "question,type,text_en,code,label_en,residual,dimension,direction,basis,core,max_choices,culture,n,percent\n"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("A,single,Why?,1,X,,,,,,", "A,,,2,Y,,IVR,,,,,us", "dimension: expected nothing, as on line 2, got 'IVR'"),
        ("A,single,Why?,1,X,,IVR,1,,,", "A,,,2,Y,,,-1,,,,us", "direction: expected '1' as on line 2, or nothing, got"),
        ("A,single,Why?,1,X,,,-1,,,", "A,,,2,Y,,,,,,,us", "line 2, column 7, dimension: expected a dimension where"),
        ("A,single,Why?,1,X,,,,,,", "A,,,2,Y,,,,,,2,us", "line 3, column 11, max_choices: expected max_choices only"),
        ("A,multiple,Why?,1,X,,,,,,", "A,,,2,Y,,,,,,2,us", "max_choices: expected nothing, as on line 2, got '2'"),
        ("A,multiple,Why?,1,X,,IVR,,,,", "A,,,1,,,,-1,,,,cn", "code: expected option 1 of A as it was first written"),
    ],
)
def test_nothing_that_is_given_is_passed_over(tmp_path: Path, first: str, second: str, expected: str) -> None:
    assert expected in refused(tmp_path, f"{VALUED}{first},us,500,50\n{second},500,50\n")


def test_a_distribution_has_one_source(tmp_path: Path) -> None:
    text = HEAD.replace("percent", "percent,source") + "A,single,Yes?,1,Yes,us,500,40,One\nA,,,2,No,us,500,60,\n"
    assert "source: expected one source for A, us, all, got 'Two'" in refused(tmp_path, text.replace("60,", "60,Two"))
    survey = survey_of(tmp_path, text + "A,,,1,,cn,500,40,\nA,,,2,,cn,500,60,Two\n")
    assert [reference.source for reference in survey.references] == ["One", "Two"]


@pytest.mark.parametrize("code", ["Self expression", "I/R", "मूल्य", "คุณค่า", "می\u200cشود"])
def test_a_dimension_is_called_in_any_script(tmp_path: Path, code: str) -> None:
    """As it is in ``survey.yaml``, so that the folder that is written can be read."""
    text = VALUED + f"A,single,Why?,1,X,,{code},,,,,us,500,50\nA,,,2,Y,,,,,,,us,500,50\n"
    assert "dimension: expected a code of letters and digits" in refused(tmp_path, text.replace(code, "=1|2"))
    assert survey_of(tmp_path, text).question("A").dimensions == (code,)


def test_counts_need_people(tmp_path: Path) -> None:
    assert "n: expected a whole number of respondents to A" in refused(
        tmp_path, COUNTED + "A,single,Yes?,1,Yes,us,,0\n"
    )
    text = COUNTED + "B,multiple,Which?,1,One,us,100,150\nB,,,2,Two,us,100,10\n"
    assert "count: expected at most 100 people for each option of B, got '150'" in refused(tmp_path, text)
