"""Reading answers: a table of replies by kind, and properties that any text must keep."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.survey import Option, Question, QuestionType
from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.simulation.answer_parser import Reading, read
from defsurvey.workers.simulation.prompts import option_text, words

_FILE = yaml.safe_load(Path(__file__).with_name("replies.yaml").read_text(encoding="utf-8"))
_SURVEY = find_survey("wvs7")


def _question(name: str, body: Mapping[str, Any]) -> Question:
    languages = body.keys() - {"type", "text", "max_choices", "codes"}
    codes = body.get("codes", range(1, len(body[min(languages)]) + 1))
    labels = [
        dict(zip(languages, wordings, strict=True)) for wordings in zip(*(body[n] for n in languages), strict=True)
    ]
    text = body.get("text", "What do you think?")
    return Question(
        id=name,
        type=QuestionType(body["type"]),
        topic="",
        text=text if isinstance(text, dict) else dict.fromkeys(languages, text),
        options=tuple(Option(code=code, label=label) for code, label in zip(codes, labels, strict=True)),
        max_choices=body.get("max_choices", 1),
    )


QUESTIONS = {name: _question(name, body) for name, body in _FILE["questions"].items()}


@dataclass(frozen=True)
class Case:
    """A reply, and what has to be read from it: an option's code or several, or the state that is no answer."""

    question: str
    text: str
    expected: int | list[int] | str
    finish: str = "stop"
    shown: Sequence[int] = ()

    @property
    def asked(self) -> Question:
        """The question, of the table or of the bundled survey."""
        return QUESTIONS.get(self.question) or _SURVEY.question(self.question)

    def read(self, text: str | None = None, reply: Reply = Reply.FULL) -> Reading:
        """What is read from it, or from another text in its place."""
        asked, text = self.asked, self.text if text is None else text
        language = "zh" if re.search("[\u4e00-\u9fff]", self.text) else "en"
        return read(text, FinishReason(self.finish), asked, self.shown or asked.codes, language, reply)


KINDS = {kind: [Case(*row[:3], **dict(*row[3:])) for row in rows] for kind, rows in _FILE["replies"].items()}
CASES = [case for cases in KINDS.values() for case in cases]


def _read(text: str, question: str = "family", language: str = "en") -> Reading:
    asked = QUESTIONS[question]
    return read(text, FinishReason.STOP, asked, asked.codes, language)


@pytest.mark.parametrize("case", CASES, ids=[f"{kind}: {c.text[:40]}" for kind, cases in KINDS.items() for c in cases])
def test_a_reply_is_read_as_a_person_would(case: Case) -> None:
    """State and choices of every reply of the table are as expected; only answers are remembered."""
    reading = case.read()
    expected = [case.expected] if isinstance(case.expected, int) else case.expected
    assert (list(reading.choices) or reading.state.value) == expected, reading
    assert (reading.remembered is not None) == (reading.state is AnswerState.ANSWERED) == (not reading.reason)


@pytest.mark.parametrize(("language", "separator"), [("en", "; "), ("zh", "；")])
@pytest.mark.parametrize(
    "name", [name for name, asked in QUESTIONS.items() if "zh" in asked.text and "en" in asked.text]
)
def test_every_choice_in_the_asked_format_is_read_back(name: str, language: str, separator: str) -> None:
    """Whatever may be chosen, written as the prompt asks for it, is read as that choice."""
    question, table = QUESTIONS[name], words(language)
    for size in range(1, question.max_choices + 1):
        for choices in combinations(question.codes, size):
            listed = separator.join(option_text(question, code, language) for code in choices)
            text = f"{table.answer}{listed}\n{table.explanation}I said 3 things, 2 of them twice."
            reading = read(text, FinishReason.STOP, question, question.codes, language)
            assert reading.choices == choices, text


_NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 10, 12, 65, 1000, 2015])
_FORMS = st.sampled_from(["{}"] * 6 + ["{}+", "{}-19", "{} – 20", "{}%", "<{}", "-{}", "+{}", "{}.5", "({})", "{}:30"])
_FIGURES = st.builds(str.format, _FORMS, _NUMBERS)


@given(st.lists(_FIGURES, min_size=2, max_size=6, unique=True), st.sampled_from(QuestionType), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_numbers_as_labels_hide_no_option(labels: list[str], kind: QuestionType, first: int) -> None:
    """Whatever numbers are labels, an option as it is shown is that option, and so is its code alone."""
    options = tuple(Option(code=code, label={"en": label}) for code, label in enumerate(labels, start=first))
    question = Question(id="Q", type=kind, topic="", text={"en": "How many?"}, options=options)
    for code in question.codes:
        for shown in (option_text(question, code, "en"), str(code)):
            reading = read(f"Answer: {shown}\nExplanation: 1.", FinishReason.STOP, question, question.codes, "en")
            assert reading.choices == (code,), (shown, reading)


@given(st.text(max_size=400), st.sampled_from(sorted(QUESTIONS)), st.sampled_from(["en", "zh"]))
@settings(max_examples=300, deadline=None)
def test_any_text_ends_in_one_state(text: str, name: str, language: str) -> None:
    """Reading never raises; choices are offered ones, ascending, no more than allowed, and only where answered."""
    question = QUESTIONS[name]
    reading = read(text, FinishReason.STOP, question, question.codes, language)
    assert (reading.state is AnswerState.ANSWERED) == bool(reading.choices)
    assert list(reading.choices) == sorted(set(reading.choices) & set(question.codes))
    assert len(reading.choices) <= question.max_choices


_PIECES = [
    "Answer: ",
    "答案：",
    "1",
    "2",
    "8",
    "-",
    " or ",
    ", ",
    "\n",
    ": ",
    "Very important",
    "not ",
    "非常重要",
    "分",
    "/10",
]
_PIECES += ["Explanation: ", "(", ")", "Hard work", "Request: ", "选", "三", "7.5", "I would say ", "as an AI ", "."]


@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join), st.sampled_from(sorted(QUESTIONS)))
@settings(max_examples=400, deadline=None)
def test_a_remembered_answer_is_still_the_answer(text: str, name: str) -> None:
    """What memory keeps of an answer in the asked format is read as the same choice again."""
    reading = _read(f"Answer: {text}", name)
    if reading.remembered is not None:
        assert _read(reading.remembered, name).choices == reading.choices
        assert reading.remembered.startswith("Answer: ")


_REPEATED = [
    "a",
    "1 ",
    "2. ",
    "very ",
    "very important ",
    "Answer: ",
    "答案：",
    "我的",
    "(",
    "*",
    "\n",
    "- 2\n",
    "十",
    "1-",
]
_REPEATED += [
    "1,000,",
    "error.",
    "explanation: ",
    "request:\n",
    "scale 1 (",
    "hard work, ",
    "as an ai ",
    "一、",
    "not ",
]


@pytest.mark.parametrize("piece", _REPEATED)
@pytest.mark.parametrize("name", ["family", "divorce", "qualities"])
def test_reading_takes_time_in_proportion_to_the_length(piece: str, name: str) -> None:
    """Four times the text takes about four times as long (sixteen would be quadratic), whatever is repeated."""

    def seconds(length: int) -> float:
        text, spent = piece * (length // len(piece)), []
        for _ in range(3):
            start = time.process_time()
            _read(text, name)
            spent.append(time.process_time() - start)
        return min(spent)

    _read(piece, name)
    assert seconds(40_000) < 11 * seconds(10_000) + 0.005


def test_memory_keeps_the_first_sentence_of_the_explanation() -> None:
    """The answer stays in the model's own words; of its explanation only the first sentence stays."""
    reading = _read(
        "**Answer:** 2: Rather important\n\nExplanation: I moved to the U.S. with my wife. We work 7.5 hours a day."
    )
    assert reading.remembered == "Answer: 2: Rather important\nExplanation: I moved to the U.S. with my wife."
    reading = _read("答案：2：比较重要\n解释：家人很好。我有两个孩子。", language="zh")
    assert reading.remembered == "答案：2：比较重要\n解释：家人很好。"
    reading = _read("Answer: 2: Rather important\nExplanation: My answer is 2 because of my work. More follows.")
    assert reading.remembered == "Answer: 2: Rather important\nExplanation: My answer is 2 because of my work."
    reading = _read("答案：2：比較重要\n解釋：我不同意傳統觀念。", language="zh")
    assert reading.remembered == "答案：2：比較重要\n解释：我不同意傳統觀念。"
    assert _read("2. Rather important").remembered == "Answer: 2. Rather important"
    assert _read("I would say rather important. It helps.").remembered == "Answer: I would say rather important."


def test_memory_of_an_endless_answer_is_bounded() -> None:
    """An answer that never comes to an end is cut where memory keeps it."""
    endless = _read("Answer: 2: Rather important, " + "and so on " * 2000)
    assert endless.choices == (2,)
    assert endless.remembered is not None
    assert len(endless.remembered) < 400


def test_reasons_say_what_is_wrong() -> None:
    """Each way to be no answer has its own words."""
    reasons = {
        "": "it is empty",
        "How important is family in your life?": "the completion only repeats the question",
        "Answer: 9": "9 is not one of 1, 2, 3, 4",
        "Answer: 2: Very important": "number and label name different options",
        "Answer: 1 or 2": "2 options are named where at most 1 may be chosen",
        "Answer: 3 people": "it begins with 3, which may be a quantity",
        "Answer: 1\nAnswer: 2": "it gives answers that differ",
        "Perhaps.": "it names no option",
    }
    assert {text: _read(text).reason for text in reasons} == reasons
    assert _read("As an AI, I have no view.").reason == "it declines: as an ai"
    assert _read("Answer: Hard work, patience", "qualities").reason == "it lists 'patience', which is not offered"
    ends = "number and sentence are at different ends of the scale"
    assert _read("Answer: 1. Divorce can be justified.", "divorce").reason == ends


def test_a_question_of_few_words_is_not_cut_out_of_an_answer() -> None:
    """It is a repetition as all of a line, or after the marker of the request."""
    assert _read("Answer: 1: Income from work", "income").remembered == "Answer: 1: Income from work"
    assert _read("Answer: Income from work", "income").choices == (1,)
    assert _read("Request: Income\nAnswer: 2", "income").choices == (2,)
    assert _read("Income", "income").reason == "the completion only repeats the question"
    assert _read("答案：1：中国", "country_zh", "zh").remembered == "答案：1：中国"
