"""Replies that say less, more or something else than an option's words alone would, and how far they are read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from storage.catalogue import find_survey
from storage.run import AnswerState
from storage.survey import Option, Question, QuestionType
from workers.engines.base import FinishReason
from workers.simulation.answers import Reading, read

SURVEY = find_survey("wvs7")


def _question(
    labels: Sequence[str] | dict[int, str],
    *,
    kind: QuestionType = QuestionType.ORDINAL,
    language: str = "en",
    text: str = "What do you think?",
) -> Question:
    coded = labels if isinstance(labels, dict) else dict(enumerate(labels, start=1))
    options = tuple(Option(code=code, label={language: label}) for code, label in coded.items())
    most = 3 if kind is QuestionType.MULTIPLE else 1
    return Question(id="Q", type=kind, topic="", text={language: text}, options=options, max_choices=most)


def _read(question: Question, text: str) -> Reading:
    return read(text, FinishReason.STOP, question, question.codes, "zh" if text[0] > "\u3000" else "en")


LISTS = [
    ("Answer: 8 (needed), 9 (work), 12 (kind)", (8, 9, 12)),
    ("Answer: 8, 9 (both needed), 12", (8, 9, 12)),
    ("Answer: 8 (Independence - needed), 9 (Hard work - success)", (8, 9)),
    ("Answer: Independence (needed in life), Hard work (brings success) and Obedience", (8, 9, 17)),
    ("Answer: Good manners (politeness), Hard work, Obedience", (7, 9, 17)),
    ("Answer:\nIndependence (needed in life)\nHard work (brings success)", (8, 9)),
    ("Answer: Independence - needed; Hard work - success; Obedience", (8, 9, 17)),
    ("I would choose independence (needed in life), hard work (success), and obedience (order).", (8, 9, 17)),
    ("答案：8（生活需要）、9（带来成功）", (8, 9)),
    ("答案：独立自主（生活需要）和勤奋努力（带来成功）", (8, 9)),
    ("Answer: Independence needed in life, hard work for success", None),
    ("Answer: Independence because it is needed, hard work because it brings success", None),
    ("Answer: Independence – needed in life, Hard work – brings success", None),
    ("Answer: 8 (needed for 2 reasons), patience, 12", None),
    ("Answer: 8 (needed), patience (as well)", None),
    ("Answer: Hard work and obedience, which lead to independence", (9, 17)),
    ("Answer: 8 and 9, but not 10 and 11", (8, 9)),
    ("Answer: Independence, because it leads to imagination, hard work and success", (8,)),
]


@pytest.mark.parametrize(("text", "choices"), LISTS)
def test_a_list_is_read_to_its_end_or_not_at_all(text: str, choices: tuple[int, ...] | None) -> None:
    """A remark behind an item drops nothing; where it is not certain what is chosen, nothing is."""
    reading = _read(SURVEY.question("Q7"), text)
    assert reading.choices == (choices or ()), reading
    assert reading.state is (AnswerState.UNPARSABLE if choices is None else AnswerState.ANSWERED)


def test_of_two_choices_with_remarks_none_is_taken_where_one_may_be() -> None:
    """A remark does not hide that a second option follows."""
    roads = _question(["Roads", "Schools", "Police"], kind=QuestionType.SINGLE)
    for text in ("Answer: 1 (needed) or 2 (important)", "Answer: Roads (needed), Schools (important)"):
        assert _read(roads, text).reason == "2 options are named where at most 1 may be chosen"


SIDES = _question({1: "Left", **{point: str(point) for point in range(2, 10)}, 10: "Right"}, kind=QuestionType.SCALE)
POINTS = [
    ("Q48", "Answer: a great deal of choice, 8", 8),
    ("Q48", "Answer: A great deal of choice.\n8", 8),
    ("Q48", "Answer: Not a great deal, 4", 4),
    ("Q49", "Answer: Completely satisfied most days, 8", 8),
    ("Q182", "Answer: Never justifiable in most cases, 2", 2),
    ("Q182", "Answer: Never justifiable in most cases. 2", 2),
    ("Q182", "Answer: Never justifiable, except in extreme cases, 2", 2),
    ("Q182", "Answer: Always justifiable\n1. It harms nobody.", 10),
    ("Q182", "Answer: Always justifiable. I have 2.", 10),
    ("Q164", "Answer: Very important in my life (John 3:16)", 10),
    ("Q182", "Answer: Always justifiable most days, 6 or 7", None),
    ("Q182", "Answer: Almost never justifiable", None),
    ("Q182", "答案：几乎任何情况下都不可接受", None),
    (None, "Answer: Left", 1),
    (None, "Answer: right in the middle, 5", 5),
    (None, "Answer: Right leaning (7)", 7),
    (None, "Answer: left-leaning, about 4", 4),
    (None, "Answer: a bit right of center: 6", 6),
    (None, "Answer: Left of centre", None),
    (None, "Answer: left-leaning", None),
    (None, "Answer: centre-left", None),
    (None, "I'm right in the middle.", None),
]


@pytest.mark.parametrize(("question", "text", "point"), POINTS)
def test_a_number_behind_the_words_of_an_end_is_the_answer(question: str | None, text: str, point: int | None) -> None:
    """The words of an end may be of other words ("left of centre"); alone they are then no answer."""
    reading = _read(SURVEY.question(question) if question else SIDES, text)
    assert reading.choices == (() if point is None else (point,)), reading


SPENDING = ["Too little", "About right", "Too much"]
AGREEING = ["Strongly agree", "Agree", "Disagree", "Strongly disagree"]
SATISFIED = ["Very satisfied", "Satisfied", "Dissatisfied", "Very dissatisfied"]
TURNED = [
    (SPENDING, "Answer: a little too much", 3),
    (SPENDING, "We are spending much too little.", 1),
    (AGREEING, "Answer: I agree strongly", 1),
    (AGREEING, "Answer: Disagree, strongly.", 4),
    (AGREEING, "Answer: Disagree (strongly)", 4),
    (AGREEING, "Answer: Agree (not strongly)", 2),
    (AGREEING, "Answer: Agree/Strongly agree", None),
    (AGREEING, "Answer: Agree, strongly agree", None),
    (AGREEING, "Disagree. Strongly qualified women lead well.", 3),
    (AGREEING, "Answer: 2: Agree\nStrongly, my family thinks so too.", 2),
    (AGREEING, "Answer: I feel this strongly. Agree", 2),
    (["Agree strongly", "Agree", "Disagree"], "Answer: Agree. Strongly held views are rare.", 2),
    (["Yes: fully", "Yes: partly", "No"], "Answer: Yes: fully", 1),
    (SATISFIED, "Answer: satisfied, very", 1),
    (SATISFIED, "Answer: Satisfied/Very satisfied", None),
    (["Very much", "Much", "Little"], "Answer: much. Very few think otherwise.", 2),
]


@pytest.mark.parametrize(("labels", "text", "choice"), TURNED)
def test_a_degree_behind_its_word_turns_no_answer_round(labels: list[str], text: str, choice: int | None) -> None:
    """The words "agree strongly" are "strongly agree"; a degree that begins another label or sentence is not."""
    reading = _read(_question(labels), text)
    assert reading.choices == (() if choice is None else (choice,)), reading


HOW_OFTEN = ["Always", "Sometimes", "Never"]
AGREEING_ZH = ["非常同意", "同意", "不同意", "非常不同意"]
DENIED = [
    (SATISFIED, "Answer: barely satisfied"),
    (SATISFIED, "Answer: anything but satisfied"),
    (SATISFIED, "Answer: almost very satisfied"),
    (SATISFIED, "Answer: satisfied-ish"),
    (HOW_OFTEN, "Answer: almost never"),
    (HOW_OFTEN, "Answer: nearly always"),
    (["Trust", "Distrust"], "Answer: no trust"),
    (["Trust", "Distrust"], "I have no trust in it."),
    (["Religious", "Atheist"], "Answer: non-religious"),
    (["Religious", "Atheist"], "Answer: Non religious"),
    (["Roads", "Schools", "Police"], "Answer: Anything but police"),
    (["Roads", "Schools", "Police"], "I would cut all except police."),
    (["Roads", "Schools", "Police"], "Answer: All except roads, schools"),
    (["Roads", "Schools", "Police"], "Answer: None, except roads and schools"),
    (["Roads", "Schools", "Police"], "Answer: everything except hospitals, schools"),
    (["Left", "Centre", "Right"], "Answer: Left of centre"),
    *(
        (AGREEING_ZH, f"答案：{said}同意")
        for said in ("不大", "不甚", "不那么", "没那么", "说不上", "算不上", "称不上")
    ),
    *((AGREEING_ZH, f"答案：{said}同意") for said in ("不够", "没法", "难说", "还算", "勉强", "几乎非常", "绝不")),
    *((AGREEING_ZH, f"答案：{said}同意") for said in ("無法", "難以", "我沒有", "不認為", "有點", "比較", "說不上")),
    *((AGREEING_ZH, f"答案：{said}同意") for said in ("沒那麼", "不那麼", "不夠", "沒法", "難說", "算不上", "幾乎不")),
    (AGREEING_ZH, "我不大同意这个说法。"),
    (["服从", "不自私", "勤奋"], "答案：除了不自私以外都选"),
]


@pytest.mark.parametrize(("labels", "text"), DENIED)
def test_what_is_denied_or_only_almost_so_is_not_chosen(labels: list[str], text: str) -> None:
    """In English, and in Chinese in both kinds of characters."""
    reading = _read(_question(labels, language="zh" if labels[0] > "\u3000" else "en"), text)
    assert reading.state is AnswerState.UNPARSABLE, reading


def test_all_but_some_chooses_none_of_those() -> None:
    """Where several may be chosen as well; a comma does not end what is left out."""
    for text in ("Answer: All except Unselfishness", "Answer: anything except Independence, Thrift and Hard work"):
        assert _read(SURVEY.question("Q7"), text).state is AnswerState.UNPARSABLE


AFFIRMED = [
    (["Always", "Almost always", "Almost never", "Never"], "Answer: Almost never", 3),
    (["Always", "Almost always", "Almost never", "Never"], "I would say almost always.", 2),
    (["总是", "几乎从不", "从不"], "答案：几乎从不", 2),
    (["Yes", "No"], "Answer: Yes, absolutely", 1),
    (["Yes", "No"], "Answer: No. 2", 2),
    (["Left", "Centre", "Right"], "Answer: right in the centre", 2),
    (["Roads", "Schools", "Police"], "Answer: Nothing but roads", 1),
    (AGREEING_ZH, "答案：我並不同意", 3),
    (SATISFIED, "Answer: Apart from my job, I am very satisfied.", 1),
    (["非常重要", "不重要"], "答案：除了工作，家庭也非常重要。", 1),
]


@pytest.mark.parametrize(("labels", "text", "choice"), AFFIRMED)
def test_a_label_with_a_denial_of_its_own_is_chosen(labels: list[str], text: str, choice: int) -> None:
    """What looks like a denial may be an option, or belong to another word."""
    reading = _read(_question(labels, language="zh" if labels[0] > "\u3000" else "en"), text)
    assert reading.choices == (choice,), reading


def test_traditional_characters_decline_and_explain_as_well() -> None:
    """Refusals and markers are known in them."""
    asked = _question(AGREEING_ZH, language="zh")
    assert _read(asked, "作為一個AI，我無法回答").state is AnswerState.REFUSED
    assert (
        _read(asked, "答案：2：同意\n解釋：我不同意傳統觀念。").remembered == "答案：2：同意\n解释：我不同意傳統觀念。"
    )


def test_a_question_of_few_words_is_not_cut_out_of_an_answer() -> None:
    """It is a repetition as all of a line, or behind the marker of the request."""
    income = _question(["Income from work", "Pension"], text="Income")
    assert _read(income, "Answer: 1: Income from work").remembered == "Answer: 1: Income from work"
    assert _read(income, "Answer: Income from work").choices == (1,)
    assert _read(income, "Request: Income\nAnswer: 2").choices == (2,)
    assert _read(income, "Income").reason == "the completion only repeats the question"
    country = _question(["中国", "美国"], language="zh", text="中国")
    assert _read(country, "答案：1：中国").remembered == "答案：1：中国"


RUSSIAN = ["Очень важно", "Важно", "Не очень важно"]
HINDI = ["सहमत", "न सहमत न असहमत", "पूरी तरह असहमत"]
GERMAN = ["Sehr wichtig", "Wichtig", "Gar nicht wichtig"]
SPANISH = ["De acuerdo", "Ni de acuerdo ni en desacuerdo", "En desacuerdo"]
ARABIC = ["موافق جدا", "موافق", "غير موافق"]
LANGUAGES = [
    ("ru", RUSSIAN, "Answer: неважно", None),
    ("ru", RUSSIAN, "Answer: не важно", None),
    ("en", RUSSIAN, "Answer: не важно", None),
    ("ru", RUSSIAN, "Answer: Важно", 2),
    ("ru", ["Согласен", "Затрудняюсь ответить"], "Answer: несогласен", None),
    ("hi", HINDI, "Answer: असहमत", None),
    ("hi", HINDI, "Answer: सहमत नहीं", None),
    ("hi", HINDI, "Answer: सहमत", 1),
    ("hi", ["दिल", "दाल"], "Answer: दाल", 2),
    ("de", GERMAN, "Answer: nicht wichtig", None),
    ("de", GERMAN, "Es ist mir nicht wichtig.", None),
    ("de", GERMAN, "Answer: Wichtig.\nErklärung: Vieles ist nicht wichtig.", 2),
    ("de", GERMAN, "Answer: 2: Wichtig, weil vieles nicht wichtig ist", 2),
    ("de", GERMAN, "Answer: wichtig (2)", 2),
    ("de", GERMAN, "Wichtig", 2),
    ("es", SPANISH, "Answer: No estoy de acuerdo", None),
    ("es", SPANISH, "Answer: De acuerdo", 1),
    ("ar", ARABIC, "Answer: لست موافق", None),
    ("ar", ARABIC, "Answer: غير موافق", 3),
    ("ja", ["とても満足", "満足", "不満"], "Answer: 満足していない", None),
    ("ko", ["만족", "불만족"], "Answer: 만족하지 않음", None),
]


@pytest.mark.parametrize(("language", "labels", "text", "choice"), LANGUAGES)
def test_a_label_in_another_language_is_an_answer_alone_or_with_its_number(
    language: str, labels: list[str], text: str, choice: int | None
) -> None:
    """Nothing can be said of a sentence in a language whose denials are not known."""
    reading = _read(_question(labels, language=language), text)
    assert reading.choices == (() if choice is None else (choice,)), reading


FAITHS = {101: "Catholic", 102: "Protestant", 103: "Muslim", 104: "Jewish"}
NUMBERS = [
    (FAITHS, "Answer: 101,102,103", (101, 102, 103)),
    (FAITHS, "答案：101，102", (101, 102)),
    (FAITHS, "Answer: 101,102 people", None),
    (FAITHS, "Answer: 101,500", None),
    ({1: "Few", 100: "Some", 1100: "Many"}, "Answer: 1,100", (1100,)),
    ({0: "None", 1: "One or two", 2: "More"}, "Answer: zero", (0,)),
    ({0: "None", 1: "Some", 2: "More"}, "Answer: ½", None),
    ({0: "None", 1: "Some", 2: "More"}, "Answer: 1½", None),
    ({0: "None", 1: "Some", 2: "More"}, "Answer: 1⁄2", None),
    ({0: "None", 1: "Some", 2: "More"}, "Answer: 1 and a half", None),
    ({0: "没有", 1: "一些", 2: "很多"}, "答案：1分半", None),
]


@pytest.mark.parametrize(("labels", "text", "choices"), NUMBERS)
def test_a_number_is_read_as_it_was_meant(labels: dict[int, str], text: str, choices: tuple[int, ...] | None) -> None:
    """Commas stand in lists of codes and group digits elsewhere; a half is no whole."""
    language = "zh" if labels[max(labels)] > "\u3000" else "en"
    reading = _read(_question(labels, kind=QuestionType.MULTIPLE, language=language), text)
    assert reading.choices == (choices or ()), reading


OF_THE_SURVEY = [
    ("Q7", "Good manners-Hard work-Obedience", (7, 9, 17)),
    ("Q7", "Hard work (builds determination and perseverance), Independence", (8, 9)),
    ("Q7", "答案：勤奋努力（培养责任感）、独立自主（培养想象力）", (8, 9)),
    ("Q7", "Answer: 8, 9 because children need responsibility and imagination to succeed.", (8, 9)),
    ("Q18", "答案：18、24，我可以接受艾滋病患者、同性恋者", (18, 24)),
    ("Q149", "Freedom-Equality", None),
    ("Q29", "Disagree-strongly disagree", None),
    ("Q29", "Answer: 1 (better than 3) or 2", None),
    ("Q29", "Agree: strongly", (1,)),
    ("Q29", "Except in rare cases I disagree.", (3,)),
    ("Q46", "Apart from money I am very happy", (1,)),
    ("Q65", "None at all, zero.", (4,)),
    ("Q182", "Except for rape it is never justifiable.", (1,)),
]


@pytest.mark.parametrize(("question", "text", "choices"), OF_THE_SURVEY)
def test_what_is_said_beside_a_choice_neither_hides_nor_makes_one(
    question: str, text: str, choices: tuple[int, ...] | None
) -> None:
    """Hyphens between choices, remarks that name other options, reasons, and what is left out of account."""
    reading = _read(SURVEY.question(question), text)
    assert (reading.choices or None) == choices, reading.reason
