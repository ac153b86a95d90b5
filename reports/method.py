"""How to read a report: the terms of its method section."""

from __future__ import annotations

from defsurvey.reports.analysis import read_how_far, why_not
from defsurvey.reports.page import Term
from defsurvey.storage.runs.run import Reply


def method(reply: Reply) -> tuple[Term, ...]:
    """The terms of a run whose replies were read that far."""
    lacking = (
        ""
        if not why_not(reply)
        else (" Diversity D, and what a judge says of explanations (cv, ff), need whole replies and are not given.")
    )
    return (*_METHOD, Term(name="Replies", value=f"Read {read_how_far(reply)} (reply: {reply.value}).{lacking}"))


_METHOD = (
    Term(
        name="Unit of analysis",
        value=(
            "One participant's answer to one question. A cell is a model, a culture, a condition and a "
            "language. Intervals are over other participants and keep the questions as they are, so they speak "
            "of these questions."
        ),
    ),
    Term(
        name="Smoothed KL",
        value=(
            "Kullback-Leibler divergence of the model's shares from people's, natural logarithm, with half an "
            "answer added to every option on both sides (Jeffreys' prior). It is always finite, and it is the "
            "figure of the headline."
        ),
    ),
    Term(
        name="Noise floor",
        value=(
            "What the same number of real people, drawn from the reference, would score on average: no sample "
            "of that size scores 0. It is worked out per question, at that question's own number of valid "
            "answers."
        ),
    ),
    Term(
        name="Excess",
        value=(
            "Divergence less the noise floor. About 0 is what people score; only the excess is the model's own doing. "
            "An interval that lies below the floor altogether is of answers more alike than people's. A mean at the "
            "floor may also be of people's commonest answers given more often than by people, so that the finding asks "
            "the test by the corrected KL as well."
        ),
    ),
    Term(
        name="Intervals",
        value=(
            "95%, by t on the scale of the root of the divergence. The variance is that of independent answers, and "
            "beyond it what the participants move together, by the jackknife. Intervals estimate the divergence "
            "expected at this number of participants, and so compare with the floor. The two-way interval counts the "
            "variance over questions too, for statements about questions like these."
        ),
    ),
    Term(
        name="Lists",
        value=(
            "A question that allows several choices counts as one yes-or-no item per option. Each option counts "
            "towards its own value dimension, and the mean of its items is the question's figure."
        ),
    ),
    Term(
        name="The paper's way",
        value=(
            "Plug-in KL, as the published code of Liu et al. (2025) computes it: infinite where a model chose "
            "what no person chose, and then replaced by the row's largest finite value plus 1. It never shares "
            "a column with the smoothed KL."
        ),
    ),
    Term(
        name="Means",
        value=(
            "Over the items of a dimension, then over dimensions; over questions where none of the run speaks to "
            "a dimension. The questions behind the mean are those. Items without a valid answer, or without a "
            "reference, are left out and are part of no mean."
        ),
    ),
    Term(
        name="Simple respondents",
        value=(
            "Uniform answers: every option equally often; of a list, any number of options up to the maximum, each "
            "number equally often. The commonest answer: always the option that most people chose; of a list, every "
            "option that more than half chose."
        ),
    ),
    Term(
        name="Order of closeness",
        value=(
            "Few valid answers would pay, because smoothing pulls small samples to the middle, and so would giving "
            "people's commonest answers more often than they, because a small sample looks more alike than what it is "
            "drawn from. So models are compared by a divergence whose entropy is corrected by the jackknife, on the "
            "questions behind the mean (those that speak to a value dimension, where any does) to which all of them "
            "gave at least 10 valid answers, each brought down to that number. Two models differ where other questions "
            "(the signs of their differences turned) and other participants (each left out in turn) would show it in "
            "all but 5 of 100 cases, adjusted for all pairs (Holm). A model shares its places with all that it cannot "
            "be told from."
        ),
    ),
    Term(
        name="Told from people",
        value=(
            "Per question, how often as many people would lie at least as far from their own distribution (G-test, "
            "exact or by simulation), adjusted over the questions of a cell (Benjamini-Hochberg). Of a list, the "
            "smallest p of its options times their number."
        ),
    ),
    Term(
        name="Matching and profiles",
        value=(
            "An item matches where the model's commonest answer is people's; a tie matches if any of its answers is. "
            "The profile of an item is the sex and the age group that give the model's commonest answer with the "
            "largest share."
        ),
    ),
    Term(
        name="Map",
        value=(
            "Mean scores per dimension of people and models, two principal components of them. Cosine and length "
            "compare a model's way between the cultures with people's in all dimensions, not only in the two shown."
        ),
    ),
    Term(
        name="Position bias",
        value=(
            "Answers that chose the option shown first, beyond those expected if answers were dealt out anew among the "
            "participants of a question; tested where a question was shown in several orders, adjusted for all cells "
            "(Holm)."
        ),
    ),
)
