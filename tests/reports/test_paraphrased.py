"""An answer to a paraphrase is shown with the words in which it was asked."""

from __future__ import annotations

from dataclasses import replace

from defsurvey.reports.analysis import analyse
from defsurvey.reports.cards import sample_cards
from defsurvey.storage.surveys.survey import Paraphrase
from tests.reports.synthetic import results, sample, survey


def test_a_sample_is_shown_in_the_wording_that_was_drawn() -> None:
    """Question and number of the paraphrase; one in the question's own words says nothing of it."""
    other = Paraphrase(question="Q1", number=2, language="en", text="Does family matter?", model="m")
    asked = sample("Answer: 2: Rather")
    drawn = replace(asked, answer=replace(asked.answer, draws=replace(asked.answer.draws, paraphrase=2)))
    known = replace(survey(), paraphrases=(other,))
    analysis = analyse(results(tiny=known, samples=(asked, drawn)))
    plain, paraphrased = sample_cards(analysis, [0, 1])
    assert (plain.question, paraphrased.question) == ("How important is family in your life?", "Does family matter?")
    assert paraphrased.chips == (*plain.chips, "paraphrase 2")
