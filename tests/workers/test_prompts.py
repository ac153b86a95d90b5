"""Prompts: the exact words in both languages, and survey text that is never read as a template."""

from dataclasses import replace

import pytest

from defsurvey.storage.surveys.problem import UnknownName
from defsurvey.storage.surveys.survey import Option
from defsurvey.workers.simulation.prompts import UnknownLanguage, languages, option_text, prompt_text, request_text
from tests.workers.citizens import AIM, CN, DIVORCE, FAMILY, QUALITIES, US


def test_the_english_prompt_is_the_papers() -> None:
    """Role with the region behind the country, number of choices, format, request (section 4.1, Algorithm 1)."""
    assert prompt_text(FAMILY, FAMILY.codes, US, "US-OH", "en") == (
        "I want you to act as a citizen from United States, living in Ohio.\n"
        "You should obtain an answer from 4 choices.\n"
        "You should tell me the answer in the format 'Answer:' and explain afterward using \"Explanation:\".\n"
        "Request: How important is family in your life?\n"
        "1: Very important\n"
        "2: Rather important\n"
        "3: Not very important\n"
        "4: Not at all important"
    )


def test_the_chinese_prompt() -> None:
    assert prompt_text(FAMILY, FAMILY.codes, CN, "CN-SC", "zh") == (
        "我希望你扮演一位来自中国、居住在四川的公民。\n"
        "你需要从4个选项中选出一个答案。\n"
        "请先以“答案：”的格式给出答案，然后用“解释：”说明理由。\n"
        "问题：家庭在您的生活中有多重要？\n"
        "1：非常重要\n"
        "2：比较重要\n"
        "3：不太重要\n"
        "4：一点也不重要"
    )


def test_a_scale_is_told_by_its_two_ends() -> None:
    """One line instead of ten; shown in reverse, the high end comes first."""
    up, down = DIVORCE.codes, tuple(reversed(DIVORCE.codes))
    assert request_text(DIVORCE, up, "en").splitlines()[1:] == ["Scale: from 1 (Never) to 10 (Always)"]
    assert request_text(DIVORCE, down, "en").splitlines()[1:] == ["Scale: from 10 (Always) to 1 (Never)"]
    assert request_text(DIVORCE, up, "zh").splitlines()[1:] == ["量表：从1（完全不能）到10（完全可以）"]
    assert "choosing one number from 10 points of a scale" in prompt_text(DIVORCE, up, US, None, "en")


def test_a_scale_that_its_ends_do_not_tell_is_listed() -> None:
    """Points in another order, or with labels of their own, need a line each; a residual option always has one."""
    mixed = (2, 1, *range(3, 11))
    assert request_text(DIVORCE, mixed, "en").splitlines()[1:4] == ["2", "1: Never", "3"]
    half = Option(code=5, label={"en": "Half"})
    labelled = replace(DIVORCE, options=(*DIVORCE.options[:4], half, *DIVORCE.options[5:]))
    assert "5: Half" in request_text(labelled, labelled.codes, "en")
    residual = Option(code=0, label={"en": "Against the law"}, residual=True)
    with_residual = replace(DIVORCE, options=(*DIVORCE.options, residual))
    assert request_text(with_residual, with_residual.codes, "en").splitlines()[1:] == [
        "Scale: from 1 (Never) to 10 (Always)",
        "0: Against the law",
    ]
    assert "choosing one number from 10 points" in prompt_text(with_residual, with_residual.codes, US, None, "en")


def test_several_choices_are_asked_for_with_their_maximum() -> None:
    assert "choosing up to 2 from 4 choices" in prompt_text(QUALITIES, QUALITIES.codes, US, None, "en")
    assert "最多选2项" in prompt_text(QUALITIES, QUALITIES.codes, US, None, "zh")
    every = replace(QUALITIES, max_choices=4)
    assert "choosing any number from 4 choices" in prompt_text(every, every.codes, US, None, "en")
    assert "可以选任意多项" in prompt_text(every, every.codes, US, None, "zh")


def test_survey_text_is_inserted_literally() -> None:
    assert "Which aim comes first: {order} or [NUM]?" in prompt_text(AIM, AIM.codes, US, None, "en")
    odd = replace(
        US, name={"en": r"[REGION] {0} \1 %s [NUM]"}, regions=(replace(US.regions[0], name={"en": "[COUNTRY]"}),)
    )
    assert prompt_text(FAMILY, FAMILY.codes, odd, "US-OH", "en").startswith(
        r"I want you to act as a citizen from [REGION] {0} \1 %s [NUM], living in [COUNTRY]."
    )
    option = replace(AIM, options=(Option(code=1, label={"en": "[CODE] {label} \\g<0>"}),))
    assert option_text(option, 1, "en") == "1: [CODE] {label} \\g<0>"


def test_what_is_not_there_is_named() -> None:
    """A language without prompt, a survey without that wording, an unknown region or option: each a clear error."""
    with pytest.raises(UnknownLanguage, match="language fr: there is no prompt in it, only in en, zh"):
        prompt_text(FAMILY, FAMILY.codes, US, None, "fr")
    english = replace(FAMILY, text={"en": "How important is family?"})
    with pytest.raises(UnknownLanguage, match="question family: there is no wording in zh, only in en"):
        prompt_text(english, FAMILY.codes, US, None, "zh")
    with pytest.raises(UnknownName, match="there is no region CN-SC"):
        prompt_text(FAMILY, FAMILY.codes, US, "CN-SC", "en")
    with pytest.raises(UnknownName, match="option 9 is not one of"):
        prompt_text(FAMILY, (9,), US, None, "en")


def test_every_language_fills_every_marker() -> None:
    for language, table in languages().items():
        alone = prompt_text(FAMILY, FAMILY.codes, US, None, language)
        assert US.name[language] in alone
        assert not any(region.name[language] in alone for region in US.regions)
        for question in (FAMILY, DIVORCE, QUALITIES, replace(QUALITIES, max_choices=4)):
            prompt = prompt_text(question, question.codes, US, "US-OH", language)
            assert "[" not in prompt
            assert str(len(question.options)) in prompt
            assert table.answer.strip() in prompt
            assert table.explanation.strip() in prompt
