"""Paraphrases: what is asked for, what passes and what does not, and how work goes on."""

from dataclasses import replace

import pytest

from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.questions import Tried, used
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import EngineUnavailable, FinishReason
from defsurvey.workers.rephrasing import BATCH, Batch, Order, bare_question, fault, prompts, rephrase, vocabulary_of
from defsurvey.workers.simulation.prompts import UnknownLanguage
from tests.workers.paraphrasers import Paraphraser, new_wording, question_in

SURVEY = find_survey("wvs7")


def order(survey: Survey = SURVEY, **changes: object) -> Order:
    wanted = Order(
        survey=survey, model="m", languages=("en",), questions=("Q1", "Q57", "Q182"), count=2, attempts=3, seed=4
    )
    return replace(wanted, **changes)  # type: ignore[arg-type]


def verdict(question: str, text: str, language: str = "en", known: tuple[str, ...] = ()) -> str:
    """Why a wording cannot stand for a question of the bundled survey."""
    asked = SURVEY.question(question)
    vocabulary = vocabulary_of(SURVEY)
    return fault(text, asked, language, vocabulary=vocabulary, known=[asked.text[language], *known])


@pytest.mark.parametrize(
    ("question", "language", "text", "why"),
    [
        ("Q1", "en", "", "it is empty"),
        ("Q1", "en", "In your life,\nhow much does family matter?", "it has several lines"),
        ("Q1", "en", "How much does \x1b[1mfamily matter?", "it has a control character (U+001B), which no"),
        ("Q1", "zh", "答案：家庭在生活中很重要。", "it answers ('答案:') in place of asking"),
        ("Q1", "en", "how important is family  in your life", "it is a wording that there is already"),
        ("Q1", "en", "Family?", "it has 7 characters, and the question 37"),
        ("Q1", "en", "家庭在您的生活中有多重要呢？", "0% of its letters are Latin, the script of the question in en"),
        ("Q1", "en", "Wie wichtig ist die Familie in Ihrem Leben?", "it seems to be in another language"),
        ("Q1", "en", "Is family very important in your life?", "it names the answer 'Very important'"),
        ("Q1", "en", "Of 10 things in your life, how much does family matter?", "the number 10 is in one of the two"),
    ],
)
def test_what_cannot_stand_for_the_question_says_why(question: str, language: str, text: str, why: str) -> None:
    """Form, language, length, answers given away, numbers: each is told."""
    assert why in verdict(question, text, language)


def test_answers_that_the_question_names_stay_whole() -> None:
    """A question that names both sides is not rephrased to one of them; naming neither is fair."""
    both = "Is a break time well spent: agree or disagree?"
    labels = zip(SURVEY.question("Q1").options, ("Agree", "Disagree", "Neither", "Other"), strict=True)
    options = tuple(replace(option, label={"en": label, "zh": label}) for option, label in labels)
    question = replace(SURVEY.question("Q1"), text={"en": both, "zh": "休息"}, options=options)
    told = [
        fault(text, question, "en", vocabulary=vocabulary_of(SURVEY), known=[both])
        for text in (
            "Do you agree that a break is time well spent?",
            "Disagree or agree: is a break time well spent?",
            "Do you think that a break is time well spent?",
        )
    ]
    assert told == ["it names the answer 'Agree' without 'Disagree'", "", ""]


def run(engine: Paraphraser, wanted: Order, tried: tuple[Tried, ...] = ()) -> list[Batch]:
    return list(rephrase(wanted, tried, engine))


def test_every_question_gets_its_number_in_every_language() -> None:
    """All pass; each prompt shows question, options and the wordings that exist, and each has a seed of its own."""
    engine = Paraphraser(new_wording)
    wanted = order(languages=("en", "zh"))
    tried = [one for batch in run(engine, wanted) for one in batch.tried]
    assert not any(one.rejected for one in tried)
    assert {(p.question, p.language, p.number) for p in used(tried)} == {
        (question, language, number) for question in wanted.questions for language in ("en", "zh") for number in (1, 2)
    }
    assert len({request.seed for request in engine.requests}) == len(engine.requests) == 12
    assert {one.paraphrase.prompt for one in tried} == {prompts()["en"], prompts()["zh"]}
    first = engine.requests[0].messages[0].content
    assert "Question: How important is family in your life?" in first
    assert "\n4: Not at all important\n" in first
    again = engine.requests[6].messages[0].content  # the second paraphrase of the same question
    assert "Well, How important is family in your life?" in again


def test_a_rejected_wording_is_tried_again_with_another_seed() -> None:
    engine = Paraphraser(question_in)
    tried = [one for batch in run(engine, order()) for one in batch.tried]
    assert len(tried) == 3 * 2 * 3
    assert {one.rejected for one in tried} == {"it is a wording that there is already"}
    assert sorted({one.attempt for one in tried}) == [0, 1, 2]
    assert len({request.seed for request in engine.requests}) == 18
    assert sum(request.decoding.do_sample for request in engine.requests) == 12
    assert order().open(tried) == []
    assert len(order(attempts=4).open(tried)) == 6


def test_work_goes_on_where_it_stopped() -> None:
    wanted = order(questions=tuple(question.id for question in SURVEY.questions[:20]))
    whole = [one for batch in run(Paraphraser(new_wording), wanted) for one in batch.tried]
    first = next(rephrase(wanted, (), Paraphraser(new_wording))).tried
    assert len(first) == BATCH
    engine = Paraphraser(new_wording)
    rest = [one for batch in run(engine, wanted, first) for one in batch.tried]
    assert len(engine.requests) == 40 - BATCH
    assert used([*first, *rest]) == used(whole)


def test_an_engine_that_gives_up_leaves_the_wording_open() -> None:
    """Nothing is rejected for it: the wording can be asked for another time."""
    [first, *_] = run(Paraphraser(lambda prompt: None), order(attempts=1))
    assert first.tried == ()
    assert first.failures[0] == "question Q1, en, paraphrase 1: the server is gone"


def test_what_was_written_before_an_engine_went_away_is_kept() -> None:
    def reply(prompt: str) -> str:
        if "important is family" in prompt:
            raise EngineUnavailable("no credit")
        return new_wording(prompt)

    batches = rephrase(order(attempts=1), (), Paraphraser(reply, late=True))
    assert len(next(batches).tried) == 2
    with pytest.raises(EngineUnavailable, match="no credit"):
        next(batches)


def test_unfinished_replies_are_rejected() -> None:
    for finish, why in ((FinishReason.LENGTH, "it was cut off"), (FinishReason.REFUSAL, "the model declined")):
        [first, *_] = run(Paraphraser(new_wording, finish), order(attempts=1))
        assert all(one.rejected.startswith(why) for one in first.tried)


def test_thoughts_before_a_wording_are_no_part_of_it() -> None:
    def tried(before: str) -> list[Tried]:
        engine = Paraphraser(lambda prompt: before + new_wording(prompt))
        return [one for batch in run(engine, order(attempts=1)) for one in batch.tried]

    assert tried("<think>Which words?</think>\n") == tried("")
    assert {one.rejected != "" for one in tried("<think>")} == {True}


def test_quotation_marks_around_a_reply_are_no_part_of_it() -> None:
    """One pair is taken off, and what cannot be stored is replaced."""
    assert bare_question(' "How so?"\n') == bare_question("“How so?”") == "How so?"
    assert bare_question("a\ud800b") == "a?b"


def test_a_language_without_a_prompt_is_named() -> None:
    survey = replace(SURVEY, questions=tuple(replace(q, text={**q.text, "xx": "?"}) for q in SURVEY.questions))
    with pytest.raises(UnknownLanguage, match="language xx: there is no prompt to rephrase in it, only in en, zh"):
        run(Paraphraser(new_wording), order(survey, languages=("xx",)))
