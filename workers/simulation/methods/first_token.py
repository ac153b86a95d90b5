"""The cheap baseline: a question's options weighed by the next token, instead of answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from defsurvey.storage.runs.run import Decoding, OptionProbabilities, Protocol
from defsurvey.storage.surveys.survey import Question
from defsurvey.workers.engines.base import Asked, EngineUnavailable, FinishReason, Request
from defsurvey.workers.simulation.methods.method import Found, Method, Posed, Response
from defsurvey.workers.simulation.prompts import conversation, prompt_text, words

log = logging.getLogger(__name__)

#: Most orders in which nominal options are shown.
MOST_ORDERS = 4


class FirstToken(Method):
    """Nothing is said: the next token's probabilities over the options are read."""

    name = "first-token"
    slots = 0
    completions = 0
    whole_cell = True
    shortened = False
    steps = "no reply: the probabilities of the options' numbers are read, here and in every other order of options"

    def order(self, protocol: Protocol, index: int, questions: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        """The survey's order, since nothing is remembered."""
        return tuple(questions)

    def option_orders(self, question: Question, shown: tuple[int, ...] = ()) -> tuple[tuple[int, ...], ...]:  # noqa: ARG002
        """Ordered options both ways; others rotated, ``MOST_ORDERS`` times at most. Residual options stay last."""
        options = [option.code for option in question.options if not option.residual]
        residual = tuple(option.code for option in question.options if option.residual)
        if question.type.ordered:
            orders = [options, options[::-1]]
        else:
            count = min(MOST_ORDERS, len(options))
            starts = (turn * len(options) // count for turn in range(count))
            orders = [options[start:] + options[:start] for start in starts]
        return tuple((*order, *residual) for order in orders)

    def prompt(self, posed: Posed) -> tuple[Request, ...]:
        """One request for each order of the options."""
        question, culture, language = posed.question, posed.culture, posed.language
        return tuple(
            Request(
                messages=conversation(prompt_text(question, shown, culture, None, language)),
                decoding=Decoding(max_new_tokens=1),
                seed=0,
                reply_start=words(language).answer,
                asked=Asked(question=question, culture=culture.code, language=language, shown=shown),
                choices=tuple(map(str, shown)),
            )
            for shown in self.option_orders(question)
        )

    def read(self, posed: Posed, responses: Sequence[Response]) -> Found:
        """The probabilities in every order; nothing where the engine gave up. EngineUnavailable: it has none."""
        participant, question = posed.participant.id, posed.question
        completions = [response.completion for response in responses]
        gave_up = [completion.error for completion in completions if completion.finish is FinishReason.ERROR]
        if gave_up:
            log.warning("participant %d, question %s is not weighed: %s", participant, question.id, gave_up[0])
            return Found()
        found = []
        for number, (shown, completion) in enumerate(zip(self.option_orders(question), completions, strict=True)):
            if completion.probabilities is None:
                raise EngineUnavailable("condition first-token: the engine gives replies and no probabilities")
            found.append(
                OptionProbabilities(
                    participant=participant,
                    item=posed.item,
                    question=question.id,
                    order=number,
                    shown=shown,
                    probabilities=completion.probabilities,
                )
            )
        return Found(probabilities=tuple(found))
