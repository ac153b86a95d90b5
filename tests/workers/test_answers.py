"""Reading answers: a table of replies by kind, and properties that any text must keep."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.storage.surveys.folder import bundled_surveys, find_survey
from defsurvey.storage.surveys.survey import Option, Question, QuestionType
from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.simulation.answer_parser import Reading, is_settled, read, spoken
from defsurvey.workers.simulation.prompts import closed_reply, option_text, words

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
        return QUESTIONS.get(self.question) or _SURVEY.question(self.question)

    def read(self, text: str | None = None, reply: Reply = Reply.FULL) -> Reading:
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
    reading = case.read()
    expected = [case.expected] if isinstance(case.expected, int) else case.expected
    assert (list(reading.choices) or reading.state.value) == expected, reading
    assert (reading.remembered is not None) == (reading.state is AnswerState.ANSWERED) == (not reading.reason)


@pytest.mark.parametrize(("language", "separator"), [("en", "; "), ("zh", "；")])
@pytest.mark.parametrize(
    "name", [name for name, asked in QUESTIONS.items() if "zh" in asked.text and "en" in asked.text]
)
def test_every_choice_in_the_asked_format_is_read_back(name: str, language: str, separator: str) -> None:
    question, table = QUESTIONS[name], words(language)
    for size in range(1, question.max_choices + 1):
        for choices in combinations(question.codes, size):
            listed = separator.join(option_text(question, code, language) for code in choices)
            text = f"{table.answer}{listed}\n{table.explanation}I said 3 things, 2 of them twice."
            reading = read(text, FinishReason.STOP, question, question.codes, language)
            assert reading.choices == choices, text


FREE = (Reply.FULL, Reply.FIRST_SENTENCE, Reply.ANSWER)
#: Language -> how a reply begins that can name options alone, and what stands between two of them.
BARE = {"en": ("Answer: ", ", "), "zh": ("答案：", "、")}


@pytest.mark.parametrize("language", BARE)
@pytest.mark.parametrize("survey", bundled_surveys())
def test_every_choice_that_a_closed_reply_can_name_is_read_as_that_choice(survey: str, language: str) -> None:
    """Whatever the order shown: each option of each question, and lists as far as they may go; as free replies too."""
    start, between = BARE[language]
    for question in find_survey(survey).questions:
        for shown in (question.codes, question.codes[::-1]):
            assert closed_reply(question, shown, language).options == tuple(map(str, shown))
            lists = [shown[place:] + shown[:place] for place in range(len(shown))]
            for named in (some[:size] for some in lists for size in range(1, question.max_choices + 1)):
                text = start + between.join(map(str, named))
                for reply in (Reply.CHOICE, Reply.FULL):
                    reading = read(text, FinishReason.STOP, question, shown, language, reply)
                    assert (reading.choices, reading.remembered) == (tuple(sorted(named)), text)


@pytest.mark.parametrize(
    ("text", "finish", "state", "reason"),
    [
        ("<think>\nAnswer: 2", "stop", AnswerState.ANSWERED, ""),  # begun by a template
        ("Answer: 1", "length", AnswerState.UNPARSABLE, "cut off"),  # of 10, perhaps
        ("Answer: 2: Rather important", "stop", AnswerState.FAILED, "did not hold the reply"),
        ("Answer: 9", "enough", AnswerState.FAILED, "did not hold the reply"),
        ("", "stop", AnswerState.FAILED, "did not hold the reply"),
    ],
)
def test_a_closed_reply_that_says_anything_else_is_its_engines_fault(
    text: str, finish: str, state: AnswerState, reason: str
) -> None:
    asked = QUESTIONS["family"]
    reading = read(text, FinishReason(finish), asked, asked.codes, "en", Reply.CHOICE)
    assert reading.state is state
    assert reason in reading.reason


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


_PIECES = (
    "Answer: |答案：|1|2|8|-| or |, |\n|: |Very important|not |非常重要|分|/10|Explanation: |(|)|Hard work|Request: "
)
_PIECES += "|选|三|7.5|I would say |as an AI |."


@given(st.lists(st.sampled_from(_PIECES.split("|")), max_size=14).map("".join), st.sampled_from(sorted(QUESTIONS)))
@settings(max_examples=400, deadline=None)
def test_a_remembered_answer_is_still_the_answer(text: str, name: str) -> None:
    reading = _read(f"Answer: {text}", name)
    if reading.remembered is not None:
        assert _read(reading.remembered, name).choices == reading.choices
        assert reading.remembered.startswith("Answer: ")


_REPEATED = (
    "a|1 |2. |very |very important |Answer: |答案：|我的|(|*|\n|- 2\n|十|1-|1,000,|error.|explanation: |request:\n"
)
_REPEATED += "|scale 1 (|hard work, |as an ai |一、|not "


@pytest.mark.parametrize("piece", _REPEATED.split("|"))
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
    reading = _read(
        "**Answer:** 2: Rather important\n\nExplanation: I moved to the U.S. with my wife. We work 7.5 hours a day."
    )
    assert reading.remembered == "Answer: 2: Rather important\nExplanation: I moved to the U.S. with my wife."
    reading = _read("答案：2：比較重要\n解釋：我不同意傳統觀念。", language="zh")
    assert reading.remembered == "答案：2：比較重要\n解释：我不同意傳統觀念。"
    assert _read("2. Rather important").remembered == "Answer: 2. Rather important"
    assert _read("I would say rather important. It helps.").remembered == "Answer: I would say rather important."


def test_memory_of_an_endless_answer_is_bounded() -> None:
    endless = _read("Answer: 2: Rather important, " + "and so on " * 2000)
    assert endless.choices == (2,)
    assert endless.remembered is not None
    assert len(endless.remembered) < 400


def test_reasons_say_what_is_wrong() -> None:
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


# Replies that are cut: where the rest can no longer change what is read, and never before.


#: What a model may go on to say, the things that would change a reading among them.
TAILS = (
    "\nExplanation: It matters to me. It always did.\nAnswer: 2",
    "\nRequest: Another question?\n3: Not very important",
    "。解释：因为如此。\n答案：3",
    "5 points, or 2, or perhaps 3.",
)
CUT = [Reply.ANSWER, Reply.FIRST_SENTENCE]


def _cut(case: Case, text: str, reply: Reply, first: int = 1) -> str | None:
    """What an engine that looks after every character, from the first one on, would have stopped at, or None."""
    asked, shown = case.asked, case.shown or case.asked.codes
    return next((text[:n] for n in range(first, len(text)) if is_settled(text[:n], asked, shown, reply)), None)


@pytest.mark.parametrize("reply", CUT)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_follows_a_cut_changes_the_reading(kind: str, reply: Reply) -> None:
    """Of every reply of the table, with something that a model might add, the cut text reads as the whole does."""
    for case, tail in zip(KINDS[kind], cycle(TAILS), strict=False):
        whole = case.text + tail
        cut = _cut(case, whole, reply)
        if cut is not None:
            assert case.read(cut, reply) == case.read(whole, reply), (cut, whole)


@pytest.mark.parametrize("reply", CUT)
def test_a_cut_reads_as_the_whole_but_for_an_answer_taken_back(reply: Reply) -> None:
    """The replies of the table read alike in all kinds of reply; only a second, other answer goes unheard."""
    changed, cut = set(), 0
    for case in CASES:
        full, short = case.read(), case.read(reply=reply)
        cut += _cut(case, case.text, reply) is not None
        if (full.state, full.choices) != (short.state, short.choices):
            changed.add(case.text)
            assert full.reason == "it gives answers that differ"
            assert short.state is AnswerState.ANSWERED
        elif reply is Reply.FIRST_SENTENCE:
            assert full.remembered == short.remembered
    assert changed == {"Answer: 2\nExplanation: It matters.\nAnswer: 3\nExplanation: Or not."}
    assert cut >= 3


@pytest.mark.parametrize(
    ("text", "answer", "first_sentence"),
    [
        ("Answer: 2\nExplanation: My family. My friends.", "Answer: 2\nExplanation:", "My family. M"),
        ("2: Rather important\nExplanation: It is 7.5 of ten. Yes.", "important\nExplanation:", "ten. Y"),
        ("答案：2：比较重要\n解释：家人重要。朋友也是。", "解释：", "家人重要。"),
    ],
)
def test_where_a_reply_is_cut(text: str, answer: str, first_sentence: str) -> None:
    case = Case("family", text, 2)
    for reply, end in ((Reply.ANSWER, answer), (Reply.FIRST_SENTENCE, first_sentence)):
        found = _cut(case, text + " And so on, and on.", reply)
        assert found is not None
        assert found.endswith(end)
    assert _cut(case, text + " And so on, and on.", Reply.FULL) is None


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("family", "Answer: I would rather not say"),
        ("family", "I think that family is very important.\nReason: it is. And"),
        ("family", "Answer: 2 or 3\nExplanation: Both are true. Or"),
        ("family", "Error: 429 Too many requests\nAnswer: 2\nExplanation: None at all. "),
        ("neighbours", "Answer: 1: Drug addicts. " + "They are many and I fear them. " * 9),
        ("lunch", "20 years ago people had time for lunch, and my mother cooked. " + "It was good. " * 20),
    ],
)
def test_what_is_not_settled_goes_on(question: str, text: str) -> None:
    """No choice yet, no marker, several where one is allowed, a failure, a list that may go on, a quantity."""
    assert not any(_cut(Case(question, text, ""), text, reply) for reply in CUT)


def test_a_choice_far_back_is_settled_without_a_marker() -> None:
    """A model that never writes "Explanation:" need not go on to its end either."""
    text = "Answer: 2. " + "My family has always been there for me, in good times and in bad. " * 4
    cut = _cut(Case("family", text, 2), text, Reply.ANSWER)
    assert cut is not None
    assert len(cut) < 200
    assert _cut(Case("family", text, 2), text, Reply.FIRST_SENTENCE) is None


def test_only_the_answer_is_remembered_of_a_reply_that_ends_there() -> None:
    text = f"Answer: 2: Rather important\n{words('en').explanation}My family. My friends."
    case = Case("family", text, 2)
    assert case.read(reply=Reply.ANSWER).remembered == "Answer: 2: Rather important"
    assert case.read(reply=Reply.FIRST_SENTENCE).remembered == case.read().remembered


# Thoughts: what a model thinks before it replies is neither read nor remembered, and cuts nothing short.


REPLY = "Answer: 1\nExplanation: Family comes first. Always."


@pytest.mark.parametrize("reply", FREE)
@pytest.mark.parametrize(
    "thought",
    [
        "<think>\nSo I should write:\nAnswer: 2\nHmm, no, family first.\n</think>\n\n",
        "I should weigh: rather important fits.\n</think>\n\n",  # the prompt has begun it
        "<think>I close with </think> when I am done: not 2.</think>",
        "<thinking>As an AI language model I have no family.</thinking>\n",
        "[THINK]Rather important, or not?[/THINK]",
        "<|channel|>analysis<|message|>Answer: 2 or 3?<|end|><|start|>assistant<|channel|>final<|message|>",
    ],
)
def test_a_reply_behind_thoughts_is_read_as_it_is_alone(thought: str, reply: Reply) -> None:
    case = Case("family", REPLY, 1)
    assert case.read(thought + REPLY, reply) == case.read(REPLY, reply)
    assert case.read(thought + "1", reply) == case.read("1", reply)


@pytest.mark.parametrize("reply", FREE)
@pytest.mark.parametrize(
    "text",
    [
        "<think>\nOkay. The format is 'Answer: 1' and so on. Let me think about it. Many would say very important",
        "Answer: <think>\n1 or 2",
        "I would say: <think>\n1 or 2",
        "<|channel|>analysis<|message|>Answer: 2",
        "<think>No.</think>\n<think>Answer: 1",
    ],
)
def test_a_thought_that_never_ends_is_no_answer(text: str, reply: Reply) -> None:
    reading = Case("family", text, "").read(reply=reply)
    assert (reading.state, reading.choices, reading.remembered) == (AnswerState.UNPARSABLE, (), None)
    assert reading.reason == "cut off while thinking"


@given(st.text(max_size=200).filter(lambda text: not set("<[") & set(text)))
@settings(max_examples=100, deadline=None)
def test_a_text_without_marks_says_all_of_itself(text: str) -> None:
    assert spoken(text) == (text, False)


@pytest.mark.parametrize("reply", CUT)
def test_no_reply_is_cut_amid_a_thought(reply: Reply) -> None:
    """Where the thought is over it is cut where it would be without, however long the thought was."""
    case = Case("family", REPLY, 1)
    alone, thought = _cut(case, REPLY, reply), f"<think>\n{REPLY}\nRequest: And? {'Let me see. ' * 200}"
    assert alone is not None
    assert _cut(case, thought, reply) is None
    assert _cut(case, f"{thought}</think>\n{REPLY}", reply) == f"{thought}</think>\n{alone}"
