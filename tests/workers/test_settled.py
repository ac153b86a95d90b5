"""Replies that are cut: where the rest can no longer change what is read, and never before."""

from __future__ import annotations

from itertools import cycle

import pytest

from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.workers.simulation.answer_parser import is_settled
from defsurvey.workers.simulation.prompts import words
from tests.workers.test_answers import CASES, KINDS, Case

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
        ("Answer: 2\nRequest: Another?", "Answer: 2\nRequest:", "Request:"),
        ("2: Rather important\nExplanation: It is 7.5 of ten. Yes.", "important\nExplanation:", "ten. Y"),
        ("答案：2：比较重要\n解释：家人重要。朋友也是。", "解释：", "家人重要。"),
    ],
)
def test_where_a_reply_is_cut(text: str, answer: str, first_sentence: str) -> None:
    """At the marker behind the answer, or behind the explanation's first sentence."""
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
    """Whatever an engine that cannot stop has gone on to say."""
    text = f"Answer: 2: Rather important\n{words('en').explanation}My family. My friends."
    case = Case("family", text, 2)
    assert case.read(reply=Reply.ANSWER).remembered == "Answer: 2: Rather important"
    assert case.read(reply=Reply.FIRST_SENTENCE).remembered == case.read().remembered
