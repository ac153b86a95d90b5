"""How to read a report: the terms of its method section.

Knows the words for what docs/metrics.md defines. Deliberately holds no figure.
"""

from __future__ import annotations

from reports.page import Term

METHOD = (
    Term(
        name="Unit of analysis",
        value=(
            "One participant's answer to one question. A cell is a model, a culture, a condition and a "
            "language. Intervals resample whole participants and keep the questions as they are, so they speak "
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
            "Divergence less the noise floor. About 0 is what people score; only the excess is the model's own doing."
        ),
    ),
    Term(
        name="Intervals",
        value=(
            "Point less the quantiles of (resample less mean of resamples), 2,000 resamples with a fixed seed. "
            "They estimate the divergence expected at this number of participants, and so compare with the "
            "floor. Their lower end is drawn at 0 where it would fall below."
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
            "Over the items of a dimension, then over dimensions; over questions where the survey names no "
            "dimension. Items without a valid answer, or without a reference, are left out and are part of no "
            "mean."
        ),
    ),
    Term(
        name="Simple respondents",
        value=(
            "At random: every option alike; of a list, any number of options up to the maximum, each number "
            "alike. The commonest answer: always the option that most people chose; of a list, every option "
            "that more than half chose."
        ),
    ),
    Term(
        name="Order of closeness",
        value=(
            "Few valid answers would pay, because smoothing pulls small samples to the middle. So models are "
            "compared only on questions to which all of them gave at least 10 valid answers, each brought down "
            "to the same number."
        ),
    ),
)
