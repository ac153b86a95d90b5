"""What needs whole replies: diversity of wording, and two of the judge's dimensions.

A reply that was cut off says nothing of how its explanation would have gone on, so that what is measured on
explanations is not given at all, and says why.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from defsurvey.reports.metrics.diversity import Diversity
from defsurvey.reports.metrics.insensitivity import Verdicts
from defsurvey.storage.runs.judgement import DIMENSIONS
from defsurvey.storage.runs.run import Reply

#: Dimensions of a judge that are about the explanation: conflict with the choice, and false facts.
ON_EXPLANATIONS = ("cv", "ff")

_READ = {
    Reply.FULL: "to their own end",
    Reply.FIRST_SENTENCE: "to the end of the first sentence of the explanation",
    Reply.ANSWER: "to the end of the answer, without an explanation",
}


def read_how_far(reply: Reply) -> str:
    """How far replies were read, in words: "to their own end"."""
    return _READ[reply]


def why_not(reply: Reply) -> str:
    """Why what needs whole replies is not given; empty where replies are whole."""
    return "" if reply is Reply.FULL else f"replies were read {_READ[reply]}"


def diversity_of(measured: Diversity, reply: Reply) -> Diversity:
    """Diversity D, or none of it where replies were cut off."""
    if reply is Reply.FULL:
        return measured
    return Diversity(
        d=np.nan, maximum=np.nan, relative=np.nan, distinct=0, replies=measured.replies, reason=why_not(reply)
    )


def judgeable(verdicts: Verdicts, reply: Reply) -> Verdicts:
    """Verdicts without those on explanations, where replies were cut off."""
    if reply is Reply.FULL:
        return verdicts
    kept = ~np.isin(verdicts.dimension, [DIMENSIONS.index(code) for code in ON_EXPLANATIONS])
    columns = {field.name: getattr(verdicts, field.name) for field in fields(Verdicts) if field.name != "judge"}
    return Verdicts(judge=verdicts.judge, **{name: column[kept] for name, column in columns.items()})
