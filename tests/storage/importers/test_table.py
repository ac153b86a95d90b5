"""Tables in long form: what they hold comes back, and what is wrong is told where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from defsurvey.storage.surveys.folder import check_survey
from defsurvey.storage.surveys.importers.table import import_table, write_template
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.survey import Group, QuestionType, Survey, Value

HEAD = "question,type,text_en,code,label_en,culture,n,percent\n"
COUNTED = "question,type,text_en,code,label_en,culture,n,count\n"


def survey_of(tmp_path: Path, text: str) -> Survey:
    """What a table becomes."""
    path = tmp_path / "house.csv"
    path.write_text(text, encoding="utf-8")
    return import_table(path, id="house").write(tmp_path / "survey")


def refused(tmp_path: Path, text: str) -> str:
    """The message with which a table is refused; no folder is left."""
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
    assert first is not None
    assert (first.n, first.source) == (640, "An example: no real figures")
    assert first.shares == pytest.approx({1: 0.251, 2: 0.436, 3: 0.313})
    single = survey.question("T3")
    assert [(option.code, option.residual) for option in single.options] == [(1, False), (2, False), (9, True)]
    listed = survey.question("T4")
    assert (listed.max_choices, listed.dimensions) == (2, ("IVR",))
    assert survey.reference("T4", "cn").shares == pytest.approx({1: 0.44, 2: 0.69, 3: 0.35})  # type: ignore[union-attr]
    labels = [option.label["zh"] for option in survey.question("T2").options]
    assert labels == ["一点也不喜欢", "2", "3", "4", "非常喜欢"]
    with pytest.raises(SurveyError, match=r"example\.csv: expected a place where nothing is yet"):
        write_template(tmp_path / "example.csv")


def test_counts_are_shares_of_their_sum(tmp_path: Path) -> None:
    """Without n, the respondents are the sum of the counts; of a list, n is what each count is of."""
    text = COUNTED + "A,single,Yes?,1,Yes,USA,,30\nA,,,2,No,USA,,90\n"
    text += "B,multiple,Which?,1,One,USA,200,150\nB,,,2,Two,USA,200,100\n"
    survey = survey_of(tmp_path, text)
    single, listed = survey.reference("A", "us"), survey.reference("B", "us")
    assert single is not None
    assert listed is not None
    assert (single.n, single.shares) == (120, {1: 0.25, 2: 0.75})
    assert (listed.n, listed.shares) == (200, {1: 0.75, 2: 0.5})
    assert survey.question("B").max_choices == 2


@pytest.mark.parametrize(
    ("amounts", "shares"),
    [
        (("1e-05", "99.99999"), (1e-7, 0.9999999)),
        ((".5", "99.5"), (0.005, 0.995)),
    ],
)
def test_percentages_are_read_as_programs_write_them(
    tmp_path: Path, amounts: tuple[str, str], shares: tuple[float, float]
) -> None:
    """With all the digits of a floating-point number, and respondents as numbers with a point."""
    rows = f"A,single,Yes?,1.0,Yes,us,903.0,{amounts[0]}\nA,,,2.0,No,us,903.0,{amounts[1]}\n"
    (tmp_path / "house.csv").write_text(HEAD + rows, encoding="utf-8")
    reference = import_table(tmp_path / "house.csv", id="x").survey.reference("A", "us")
    assert reference is not None
    assert reference.n == 903
    assert tuple(reference.shares.values()) == pytest.approx(shares, rel=1e-12)


@pytest.mark.parametrize(
    ("head", "first", "second"),
    [
        (COUNTED, "A,single,Yes?,1,Yes,us,900,0", "A,,,2,No,us,900,0"),
        (COUNTED, "A,multiple,Which?,1,One,us,900,0", "A,,,2,Two,us,900,0"),
    ],
)
def test_a_question_to_which_nobody_gave_an_answer_is_told(tmp_path: Path, head: str, first: str, second: str) -> None:
    """Such figures are missing ones, written as zeros."""
    assert "line 2, column 8" in (told := refused(tmp_path, f"{head}{first}\n{second}\n"))
    assert "expected an option of A that somebody chose, got '0 for each of them'" in told


def test_other_delimiters_and_a_byte_order_mark(tmp_path: Path) -> None:
    """What spreadsheets save is read: semicolons or tabs, a mark at the beginning, and rows of empty cells."""
    rows = HEAD + "A,single,Yes?,1,Yes,us,50,40\n,,,,,,,\nA,,,2,No,us,50,60\n , ,,,,,,\n"
    for number, mark in enumerate((";", "\t")):
        (tmp_path / f"{number}.csv").write_text("\ufeff" + rows.replace(",", mark), encoding="utf-8")
        imported = import_table(tmp_path / f"{number}.csv", id="x")
        reference = imported.survey.reference("A", "us")
        assert reference is not None
        assert (reference.shares, reference.low_n) == ({1: 0.4, 2: 0.6}, True)
        assert imported.survey.title == str(number)


def test_a_language_of_ones_own(tmp_path: Path) -> None:
    """Wordings in a country's own language are asked in it; other countries get what there is."""
    text = "question,type,text_de,code,label_de,culture,n,percent\n"
    text += "A,single,Ja?,1,Ja,DEU,500,40\nA,,,2,Nein,DEU,500,60\nA,,,1,,USA,500,40\nA,,,2,,USA,500,60\n"
    survey = survey_of(tmp_path, text)
    assert [(c.code, c.language, c.spoken) for c in survey.cultures] == [("de", "de", ""), ("us", "de", "en")]


GOOD = ["A,single,Yes?,1,Yes,us,500,40", "A,,,2,No,us,500,60"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("A,,,2,No,us,500,sixty", "house.csv, line 3, column 8, percent: expected a number from 0 to 100, got 'sixty'"),
        ("A,,,x,No,us,500,60", "house.csv, line 3, column 4, code: expected a whole number, 0 or more, got 'x'"),
        ("A,,,2,Yes,us,500,60", "house.csv, line 3, column 5, label_en: expected a label of its own, got 'Yes'"),
        ("A,,,1,Yes,us,500,60", "code: expected every option of A, us, all once, got '1 again'"),
        ("A,,,1,Yep,us,500,60", "code: expected option 1 of A as it was first written"),
        ("A,scale,,2,No,us,500,60", "column 2, type: expected 'single' as on line 2, or nothing, got 'scale'"),
        ("A,,,2,No,Amerika,500,60", "column 6, culture: expected a country that is known; others are added with"),
        ("A,,,2,No,us,500,50", "percent: expected percentages of A that sum to 100 within 1, got '90 in sum'"),
        ("A,,,2,No,us,501,60", "n: expected one number of respondents, 1 or more, for A, us, got '501'"),
        ("B,choice,Why?,1,No,us,500,60", "type: expected one of single, ordinal, scale, multiple, got 'choice'"),
        ("B,single,,1,No,us,500,60", "line 3, column 3, text_en: expected a text, got nothing"),
        ("B 1,single,Why?,1,No,us,500,60", "question: expected a name of letters, digits, '_', '.' and '-'"),
        ("A,,,2,No\x1b[2J,us,500,60", "column 5, label_en: expected a text without control characters, got 'No\\x1b"),
        ("A,,,2,No,us,500", "house.csv, line 3, column 7: expected 8 cells, as the header has, got 7"),
        ("A,,,2,No,cn,500,60", "expected every option of A for us, all, got 'none for 2'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, row: str, expected: str) -> None:
    """One row of a good table is broken in each way."""
    assert expected in refused(tmp_path, HEAD + f"{GOOD[0]}\n{row}\n")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (HEAD.replace("percent", "share"), "got 'share'"),
        (HEAD.replace("text_en", "text"), "column 3, text: expected one of the columns"),
        (HEAD.replace("n,percent", "percent,count"), "expected one of the columns percent and count"),
        (HEAD.replace("n,percent", "source,percent"), "line 1, header: expected a column 'n'"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, head: str, expected: str) -> None:
    """Columns that are missing, unknown or contradict each other."""
    assert expected in refused(tmp_path, head + "\n".join(GOOD))


def test_points_of_a_scale_are_in_the_order_of_their_codes(tmp_path: Path) -> None:
    """However the rows are sorted, and what stands beside them comes last; other questions keep the order of rows."""
    head = HEAD.replace("label_en", "label_en,residual")
    for name, kind in (("A", "scale"), ("B", "ordinal")):
        head += f"{name},{kind},How much?,3,Three,,us,500,40\n{name},,,0,None,yes,us,500,5\n"
        head += f"{name},,,1,Little,,us,500,30\n{name},,,2,Two,,us,500,15\n{name},,,4,Much,,us,500,10\n"
    survey = survey_of(tmp_path, head)
    assert survey.question("A").codes == (1, 2, 3, 4, 0)
    assert survey.question("B").codes == (3, 1, 2, 4, 0)
    assert survey.reference("A", "us").shares == {1: 0.3, 2: 0.15, 3: 0.4, 4: 0.1, 0: 0.05}  # type: ignore[union-attr]


VALUED = "question,type,text_en,code,label_en,residual,dimension,direction,basis,core,max_choices,culture,n,percent\n"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("A,single,Why?,1,X,,,,,,", "A,,,2,Y,,IVR,,,,,us", "dimension: expected nothing, as on line 2, got 'IVR'"),
        ("A,single,Why?,1,X,,IVR,1,,,", "A,,,2,Y,,,-1,,,,us", "direction: expected '1' as on line 2, or nothing, got"),
        ("A,single,Why?,1,X,,IVR,1,,,", "A,,,2,Y,,,,,yes,,us", "core: expected nothing, as on line 2, got 'yes'"),
        ("A,single,Why?,1,X,,IVR,,,,", "A,,,2,Y,,,,,2,,us", "core: expected yes, no or nothing, got '2'"),
        ("A,single,Why?,1,X,,,-1,,,", "A,,,2,Y,,,,,,,us", "line 2, column 7, dimension: expected a dimension where"),
        ("A,single,Why?,1,X,,,,,,2", "A,,,2,Y,,,,,,,us", "line 2, column 11, max_choices: expected max_choices only"),
        ("A,single,Why?,1,X,,,,,,", "A,,,2,Y,,,,,,2,us", "line 3, column 11, max_choices: expected max_choices only"),
        ("A,multiple,Why?,1,X,,,,,,", "A,,,2,Y,,,,,,2,us", "max_choices: expected nothing, as on line 2, got '2'"),
        ("A,multiple,Why?,1,X,,,,,,0", "A,,,2,Y,,,,,,,us", "max_choices: expected a whole number, 2 or more, got '0'"),
        ("A,multiple,Why?,1,X,,IVR,,,,", "A,,,1,,,,-1,,,,cn", "code: expected option 1 of A as it was first written"),
        ("A,single,Why?,1,X,,,,,,", "A,,,1,,yes,,,,,,cn", "code: expected option 1 of A as it was first written"),
    ],
)
def test_nothing_that_is_given_is_passed_over(tmp_path: Path, first: str, second: str, expected: str) -> None:
    """What a later row adds, what needs a dimension, and what the type of question has no use for."""
    assert expected in refused(tmp_path, f"{VALUED}{first},us,500,50\n{second},500,50\n")


def test_a_distribution_has_one_source(tmp_path: Path) -> None:
    """Two would leave one untold; other cultures may have another."""
    text = HEAD.replace("percent", "percent,source") + "A,single,Yes?,1,Yes,us,500,40,One\nA,,,2,No,us,500,60,\n"
    assert "source: expected one source for A, us, all, got 'Two'" in refused(tmp_path, text.replace("60,", "60,Two"))
    survey = survey_of(tmp_path, text + "A,,,1,,cn,500,40,\nA,,,2,,cn,500,60,Two\n")
    assert [reference.source for reference in survey.references] == ["One", "Two"]


def test_what_is_repeated_may_be_said_in_other_words(tmp_path: Path) -> None:
    """A direction of 1 is the one that is understood, and "no" what an empty cell says."""
    text = VALUED + "A,scale,Why?,1,,no,IVR,+1,,,,us,500,50\nA,scale,,2,2,,IVR,1,B,no,,us,500,50\n"
    text += "A,,,1,1,,,,,,,cn,500,50\nA,,,2,,no,,,,,,cn,500,50\n"
    text += "B,multiple,Why?,1,X,yes,IVR,1,,,,us,500,50\nB,,,2,Y,,,,,no,,us,500,50\nB,,,3,Z,,,,,,,us,500,50\n"
    text += "B,,,1,X,,IVR,,,,,cn,500,50\n"
    survey = survey_of(tmp_path, text)
    assert survey.question("A").value == Value(dimension="IVR", direction=1, basis="B")
    assert [option.residual for option in survey.question("B").options] == [False, False, True]
    assert survey.question("B").option(1).value == Value(dimension="IVR", direction=1, basis="B")


@pytest.mark.parametrize("code", ["Self expression", "I/R", "मूल्य", "คุณค่า", "می\u200cشود"])
def test_a_dimension_is_called_in_any_script(tmp_path: Path, code: str) -> None:
    """As it is in ``survey.yaml``, so that the folder that is written can be read."""
    text = VALUED + f"A,single,Why?,1,X,,{code},,,,,us,500,50\nA,,,2,Y,,,,,,,us,500,50\n"
    assert "dimension: expected a code of letters and digits" in refused(tmp_path, text.replace(code, "=1|2"))
    assert survey_of(tmp_path, text).question("A").dimensions == (code,)


def test_counts_need_people(tmp_path: Path) -> None:
    """Nobody answered, or more people than there are."""
    assert "n: expected a whole number of respondents to A" in refused(
        tmp_path, COUNTED + "A,single,Yes?,1,Yes,us,,0\n"
    )
    text = COUNTED + "B,multiple,Which?,1,One,us,100,150\nB,,,2,Two,us,100,10\n"
    assert "count: expected at most 100 people for each option of B, got '150'" in refused(tmp_path, text)


def test_numbers_that_are_options_of_their_own_are_noted(tmp_path: Path) -> None:
    """A reply that is a bare number is a code: where a label looks like another's, the user is told."""
    text = HEAD + "A,single,How many?,1,0,us,500,40\nA,,,2,1,us,500,60\n"
    text += "B,scale,How much?,1,1,us,500,40\nB,,,2,2,us,500,60\n"
    (tmp_path / "house.csv").write_text(text, encoding="utf-8")
    assert import_table(tmp_path / "house.csv", id="house").notes[1:] == (
        "a label in A is the number of another option: a reply of that number alone is read as that option",
    )


def test_one_option_is_no_question(tmp_path: Path) -> None:
    """What only the survey as a whole can tell is told as of a survey folder, and nothing is left."""
    message = refused(tmp_path, HEAD + "A,single,Yes?,1,Yes,us,500,100\n")
    assert "A.options: expected at least two options that are not residual" in message
