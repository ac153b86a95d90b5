"""Replies to the bundled survey's own questions: lists, ends of scales, denials, explanations like answers."""

from __future__ import annotations

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


def test_what_is_remembered_of_an_explanation_is_its_whole_first_sentence() -> None:
    """Also where that sentence has words in it that could open an answer."""
    asked = SURVEY.question("Q1")
    text = "Answer: 2: Rather important\nExplanation: My answer is 2 because of my work. More follows."
    reading = read(text, FinishReason.STOP, asked, asked.codes, "en")
    assert reading.remembered == "Answer: 2: Rather important\nExplanation: My answer is 2 because of my work."
