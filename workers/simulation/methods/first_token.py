"""The cheap baseline: a question's options weighed by the next token, instead of answered.

One participant stands for its cell, since nothing is drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from defsurvey.storage.runs.run import Decoding, OptionProbabilities, Participant
from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.workers.engines.base import (
    Asked,
    Completion,
    Engine,
    EngineUnavailable,
    FinishReason,
    Request,
    outcome,
    submit,
)
from defsurvey.workers.simulation.methods.prompts import conversation
from defsurvey.workers.simulation.prompts import prompt_text, words

log = logging.getLogger(__name__)

#: Most orders in which nominal options are shown.
MOST_ORDERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What was found out about one item, to be committed whole; nothing where the engine gave up."""

    item: int
    found: tuple[OptionProbabilities, ...]


def option_orders(question: Question) -> tuple[tuple[int, ...], ...]:
    """The orders in which a question's options are weighed; residual options stay last.

    Ordered options run forward and backward; others are rotated, ``MOST_ORDERS`` times at most, so
    that no place favours an option.
    """
    options = [option.code for option in question.options if not option.residual]
    residual = tuple(option.code for option in question.options if option.residual)
    if question.type.ordered:
        orders = [options, options[::-1]]
    else:
        count = min(MOST_ORDERS, len(options))
        starts = (turn * len(options) // count for turn in range(count))
        orders = [options[start:] + options[:start] for start in starts]
    return tuple((*order, *residual) for order in orders)


def weigh_options(
    participant: Participant, *, survey: Survey, questions: Sequence[str], engine: Engine
) -> Iterator[Weighed]:
    """Weigh the options of every question that has not been weighed yet.

    Args:
        participant: stands for its cell; starts at its ``next_item``.
        survey: where the questions and the culture are found.
        questions: ids of all questions of the run, in survey order.
        engine: has to give probabilities.

    Yields:
        What was found for each item; commit it before asking for the next.

    Raises:
        EngineUnavailable: the engine gives replies only.
    """
    for item in range(participant.next_item, len(questions)):
        question = survey.question(questions[item])
        orders = option_orders(question)
        asked = [submit(engine, weighing(participant, question, order, survey)) for order in orders]
        completions = [outcome(future) for future in asked]
        gave_up = [completion.error for completion in completions if completion.finish is FinishReason.ERROR]
        if gave_up:
            log.warning("participant %d, question %s is not weighed: %s", participant.id, question.id, gave_up[0])
            yield Weighed(item=item, found=())
            continue
        yield Weighed(
            item=item,
            found=tuple(
                OptionProbabilities(
                    participant=participant.id,
                    item=item,
                    question=question.id,
                    order=number,
                    shown=order,
                    probabilities=_given(completion),
                )
                for number, (order, completion) in enumerate(zip(orders, completions, strict=True))
            ),
        )


def weighing(participant: Participant, question: Question, shown: tuple[int, ...], survey: Survey) -> Request:
    """The request for the probabilities of a question's option codes, shown in this order."""
    cell = participant.cell
    culture, language = survey.culture(cell.culture), cell.language
    return Request(
        messages=conversation(prompt_text(question, shown, culture, None, language)),
        decoding=Decoding(max_new_tokens=1),
        seed=0,
        reply_start=words(language).answer,
        asked=Asked(question=question, culture=culture.code, language=language, shown=shown),
        choices=tuple(map(str, shown)),
    )


def _given(completion: Completion) -> tuple[float, ...]:
    if completion.probabilities is None:
        raise EngineUnavailable("condition first-token: the engine gives replies and no probabilities")
    return completion.probabilities
