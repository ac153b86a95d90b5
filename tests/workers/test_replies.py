"""Replies to the bundled survey's own questions: lists, ends of scales, denials, explanations like answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.catalogue import find_survey
from workers.engines.base import FinishReason
from workers.simulation.answers import read

SURVEY = find_survey("wvs7")
REPLIES = [
    (
        "Q7",
        "Answer: The most important qualities are:\n- Good manners\n- Hard work\n- Obedience\nExplanation: x",
        "answered",
        (7, 9, 17),
    ),
    (
        "Q7",
        "Answer: As a citizen of the US, I would choose:\n7: Good manners\n9: Hard work\n10: A sense of responsibility",
        "answered",
        (7, 9, 10),
    ),
    ("Q7", "答案：我选择以下五项：\n7：有礼貌\n8：独立自主\n10：责任感", "answered", (7, 8, 10)),
    ("Q7", "Answer: 7. Good manners. 9. Hard work. 15. Religious faith.", "answered", (7, 9, 15)),
    ("Q7", "答案：有礼貌。独立自主。责任感。", "answered", (7, 8, 10)),
    (
        "Q1",
        "2: Rather important\nExplanation: My answer is based on the fact that it is not very important to the young.",
        "answered",
        (2,),
    ),
    ("Q5", "3\nExplanation: My choice is due to the fact that leisure is very important to me.", "answered", (3,)),
    ("Q1", "2\n解释：我的选择是因为工作对我来说也非常重要。", "answered", (2,)),
    (
        "Q1",
        "Answer: 2: Rather important\nExplanation: My answer is based on my belief that work is very important too.",
        "answered",
        (2,),
    ),
    ("Q108", "Answer: The government should take more responsibility, so I'd say 3.", "answered", (3,)),
    ("Q108", "Answer: People themselves should take more responsibility, so I would choose 8.", "answered", (8,)),
    ("Q107", "Answer: Private ownership should increase. I would say 4.", "answered", (4,)),
    ("Q164", "Answer: Very important, I would give it a 9.", "answered", (9,)),
    ("Q106", "Incomes should be more equal, so I choose 2.", "answered", (2,)),
    ("Q108", "答案：政府应该承担更多责任，所以我选3。", "answered", (3,)),
    ("Q7", "Answer: Honesty, hard work, and good manners.", "unparsable", ()),
    ("Q7", "Answer: Kindness and hard work", "unparsable", ()),
    ("Q7", "Answer:\n- Honesty\n- Hard work\n- Obedience", "unparsable", ()),
    ("Q7", "Answer:\n- Hard work\n- Honesty\n- Obedience", "unparsable", ()),
    ("Q7", "答案：诚实、有礼貌、责任感", "unparsable", ()),
    ("Q7", "Answer: Personally, hard work and good manners", "answered", (7, 9)),
    ("Q7", "Answer: As a citizen, hard work and good manners", "answered", (7, 9)),
    ("Q7", "Answer: In China, hard work and good manners", "answered", (7, 9)),
    ("Q149", "Answer: Freedom is less important to me than equality.", "unparsable", ()),
    ("Q149", "Answer: Freedom is not as important as equality.", "unparsable", ()),
    ("Q150", "Answer: Freedom must give way to security.", "answered", (2,)),
    ("Q149", "自由不如平等重要。", "answered", (2,)),
    ("Q149", "自由没有平等重要。", "unparsable", ()),
    ("Q57", "Answer: I doubt most people can be trusted.", "unparsable", ()),
    ("Q57", "Answer: I disagree that most people can be trusted.", "unparsable", ()),
    ("Q57", "Answer: It would be naive to think that most people can be trusted.", "unparsable", ()),
    ("Q61", "Answer: Nobody should trust completely people they meet for the first time.", "unparsable", ()),
    ("Q61", "我不可能完全信任初次见面的人", "unparsable", ()),
    ("Q61", "我很少完全信任陌生人", "unparsable", ()),
    ("Q27", "我未必同意", "unparsable", ()),
    ("Q27", "我很难同意", "unparsable", ()),
    ("Q27", "我不敢同意", "unparsable", ()),
    ("Q45", "这不见得是好事", "unparsable", ()),
    ("Q7", "Answer: Obedience is not important, but hard work is.", "answered", (9,)),
    ("Q7", "答案：独立自主（8）、勤奋努力（9）", "answered", (8, 9)),
    ("Q7", "1. Good manners (7)\n2. Hard work (9)", "answered", (7, 9)),
    ("Q7", "1. 7: Good manners\n2. 9: Hard work", "answered", (7, 9)),
    ("Q7", "有礼貌、节俭、责任感", "answered", (7, 10, 13)),
    ("Q111", "Growth and jobs", "answered", (2,)),
    ("Q1", "答案：【2】", "answered", (2,)),
    ("Q1", "答案：「2」", "answered", (2,)),
    ("Q1", "答案：《2》", "answered", (2,)),
    ("Q6", "我没有信仰。", "unparsable", ()),
    ("Q43", "我没有意见。", "unparsable", ()),
    ("Q209", "我不想参与这类活动", "unparsable", ()),
    ("Q151", "I refuse to take part in any war.", "unparsable", ()),
    ("Q1", "Important\nExplanation: I cannot express how much my family means to me", "unparsable", ()),
    ("Q235", "Bad\nExplanation: A leader who cannot take criticism is dangerous.", "unparsable", ()),
    ("Q196", "The government should not have the ability to do so", "unparsable", ()),
    ("Q1", "I'm sorry, I cannot answer this.", "refused", ()),
    ("Q1", "As an AI language model, I don't have personal opinions.", "refused", ()),
    ("Q1", "Answer: N/A\nExplanation: I cannot answer this question.", "refused", ()),
    ("Q1", "我无法回答这个问题。", "refused", ()),
    ("Q1", "作为一个人工智能，我没有个人观点。", "refused", ()),
]


@pytest.mark.parametrize(("question", "text", "state", "choices"), REPLIES)
def test_a_reply_to_the_bundled_survey_is_read_as_a_person_would(
    question: str, text: str, state: str, choices: tuple[int, ...]
) -> None:
    """Nothing that was said is dropped, and nothing that was denied is chosen."""
    asked = SURVEY.question(question)
    reading = read(text, FinishReason.STOP, asked, asked.codes, "zh" if text[0] > "\u3000" else "en")
    assert (reading.state.value, reading.choices) == (state, choices), reading


BETWEEN = [
    ("Q106", "答案：6到7之间"),
    ("Q106", "答案：6到7分之间"),
    ("Q106", "答案：7-8分之间"),
    ("Q106", "答案：7到8分左右"),
    ("Q106", "答案：5或6之间"),
    ("Q106", "答案：6、7之间"),
    ("Q106", "答案：6～7之间"),
    ("Q106", "答案：六到七分"),
    ("Q106", "答案：六-七分"),
    ("Q106", "答案：6还是7呢"),
    ("Q106", "我会选6到7之间"),
    ("Q106", "我会选6和7之间"),
    ("Q106", "答案：6或7都行，因为收入应该更加平等"),
    ("Q106", "Answer: 6 or 7 maybe"),
    ("Q106", "Answer: 6 or 7 maybe, because incomes should be more equal"),
    ("Q106", "Answer: 6 or maybe 7 overall"),
    ("Q106", "Answer: 6 to 7 range"),
    ("Q106", "Answer: 6-7 range"),
    ("Q106", "Answer: 6 - 7 roughly"),
    ("Q106", "Answer: 6 or 7 depending on mood"),
    ("Q106", "Answer: six or seven perhaps"),
    ("Q106", "Answer: between 6 and 7 overall"),
    ("Q106", "Answer: 6.5 to 7 overall"),
    ("Q106", "Given that, I would say 6 or 7 roughly."),
    ("Q106", "Answer: 5, 6 or 7 overall"),
    ("Q1", "答案：1到2之间"),
    ("Q1", "答案：1到2分之间"),
    ("Q1", "Answer: 1 or 2 perhaps"),
    ("Q1", "Answer: 1 or 2 depending on the day"),
    ("Q1", "Answer: Very important or 1 or 2, depending"),
    ("Q1", "Answer: 3-4 people in my family think so"),
]


@pytest.mark.parametrize(("question", "text"), BETWEEN)
def test_a_number_joined_to_another_is_not_the_answer(question: str, text: str) -> None:
    """Whatever follows the two: whoever says "6 or 7 maybe" has not said 6."""
    asked = SURVEY.question(question)
    reading = read(text, FinishReason.STOP, asked, asked.codes, "zh" if text[0] > "\u3000" else "en")
    assert (reading.state.value, reading.choices) == ("unparsable", ()), reading


NOT_BETWEEN = [
    ("Q1", "Answer: 1 - Very important", 1),
    ("Q1", "Answer: 2 - 3 or 4 people here would say otherwise", 2),
    ("Q1", "Answer: 3 - 4 people in my family think so", 3),
    ("Q1", "Answer: Very important, 3 to 4 times a week", 1),
    ("Q1", "Answer: 2, a 2-year plan", 2),
    ("Q1", "Answer: 2 (as of 2024-05-01)", 2),
    ("Q1", "Answer: 2\nExplanation: In 5 or 6 years I will be 20 to 30 km away.", 2),
    ("Q1", "Answer: 1 - 1: Very important", 1),
    ("Q1", "答案：1，因为我有三到四个孩子", 1),
    ("Q1", "答案：我家三到四代人住在一起，非常重要", 1),
    ("Q57", "Answer: 2-One needs to be very careful", 2),
    ("Q46", "答案：4-一点也不幸福", 4),
    ("Q106", "Answer: 7 or so", 7),
    ("Q106", "On a scale of 1 to 10, I give it a 7.", 7),
    ("Q106", "在1到10分的量表上，我给7分。", 7),
    ("Q243", "在1到10分的量表上，我给7分。", 7),
    ("Q106", "答案：7还是比较合适", 7),
    ("Q57", "2 or One needs to be very careful", 2),
    ("Q57", "2到One needs to be very careful", 2),
    ("Q57", "2或One needs to be very careful", 2),
    ("Q48", "一到十，我给5", 5),
    ("Q48", "从一到十分，我给5分", 5),
    ("Q48", "一至十分，我打五分", 5),
    ("Q48", "答案：5（一到十）", 5),
    ("Q48", "答案：五（从一（完全没有）到十）", 5),
    ("Q48", "Answer: 5 (one to ten)", 5),
    ("Q48", "Answer: seven (one to ten)", 7),
    ("Q48", "On a scale from one (none at all) to ten (a great deal), I'd say seven.", 7),
    ("Q48", "Ten to one, I'd say 5", 5),
]


@pytest.mark.parametrize(("question", "text", "choice"), NOT_BETWEEN)
def test_a_quantity_or_an_explanation_beside_an_answer_leaves_it_as_it_is(
    question: str, text: str, choice: int
) -> None:
    """Numbers behind a dash or a comma may belong to the explanation, and labels may begin with a numeral."""
    asked = SURVEY.question(question)
    reading = read(text, FinishReason.STOP, asked, asked.codes, "zh" if text[0] > "\u3000" else "en")
    assert (reading.state.value, reading.choices) == ("answered", (choice,)), reading


NUMBERED = [
    ("1-0 children", 1),
    ("2-1 child", 2),
    ("Answer: 3-2 children", 3),
    ("4-3 or more", 4),
    ("Answer: 4–3 or more, as most families here", 4),
    ("2到1 child", 2),
    ("Answer: 1 or 2 children", None),
    ("Answer: 1-2", None),
    ("Answer: 2 or 3", None),
]


@pytest.mark.parametrize(("text", "choice"), NUMBERED)
def test_a_label_that_begins_with_a_number_is_no_second_one(text: str, choice: int | None) -> None:
    """A code and its own label are one answer; a code and another's label are still two."""
    asked = SURVEY.question("Q1")
    labels = ("0 children", "1 child", "2 children", "3 or more")
    options = (
        replace(option, label=dict.fromkeys(option.label, label))
        for option, label in zip(asked.options, labels, strict=True)
    )
    asked = replace(asked, options=tuple(options))
    reading = read(text, FinishReason.STOP, asked, asked.codes, "en")
    assert reading.choices == (() if choice is None else (choice,)), reading


def test_of_several_choices_none_that_is_joined_is_dropped() -> None:
    """Where several may be chosen both are, whatever follows them."""
    asked = SURVEY.question("Q7")
    reading = read("Answer: 7, 9 or 10 perhaps", FinishReason.STOP, asked, asked.codes, "en")
    assert reading.choices == (7, 9, 10)


def test_what_is_remembered_of_an_explanation_is_its_whole_first_sentence() -> None:
    """Also where that sentence has words in it that could open an answer."""
    asked = SURVEY.question("Q1")
    text = "Answer: 2: Rather important\nExplanation: My answer is 2 because of my work. More follows."
    reading = read(text, FinishReason.STOP, asked, asked.codes, "en")
    assert reading.remembered == "Answer: 2: Rather important\nExplanation: My answer is 2 because of my work."
