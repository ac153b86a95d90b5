"""From a request to the tokens to be continued, and from the tokens of a reply to a completion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.workers.engines.base import NO_DECODING, ClosedReply, Completion, FinishReason, Request
from defsurvey.workers.engines.transformers.core.constraint import Constraint, constrain
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.prompt import (
    decode_reply,
    encode_prompt,
    render_prompt,
    special_marks,
    thought_begun,
)
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling, resolve_decoding
from defsurvey.workers.models import ModelCard

#: What is used of a request's decoding where texts are weighed.
_WEIGHED = UsedDecoding(num_beams=1, do_sample=False, temperature=None, top_p=None, max_new_tokens=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that can be answered."""

    resolved: ResolvedRequest
    used: UsedDecoding
    beginning: str = ""  #: what the reply was begun with, and a thought that the prompt began
    marks: frozenset[int] = frozenset()  #: special tokens that a reply's text keeps
    named: Callable[[Sequence[int]], str | None] = lambda _tokens: None  #: the text of a reply that names options alone

    def completion(self, loaded: LoadedModel, reply: Sequence[int], probabilities: Sequence[float]) -> Completion:
        """The completion that the tokens of a reply make, or the probabilities of the texts that were weighed."""
        if self.resolved.choices:
            return self._weighed(probabilities)
        if reply and reply[-1] in loaded.ends:
            finish = FinishReason.STOP
        else:
            finish = FinishReason.LENGTH if len(reply) == self.resolved.max_new_tokens else FinishReason.ENOUGH
        text = self.named(reply)
        return Completion(
            text=self.beginning + (decode_reply(loaded.tokenizer, reply, self.marks) if text is None else text),
            finish=finish,
            used=self.used,
            prompt_tokens=len(self.resolved.prompt),
            completion_tokens=len(reply),
        )

    def failure(self, error: Exception) -> Completion:
        """The completion that says why there is no reply."""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        failed = _failed(reason, self.used)
        return failed if self.resolved.choices else replace(failed, prompt_tokens=len(self.resolved.prompt))

    def _weighed(self, probabilities: Sequence[float]) -> Completion:
        """The probabilities, scaled to sum to 1."""
        total = math.fsum(probabilities)
        if not total > 0:
            return _failed("no choice has a probability above 0", self.used)
        return Completion(
            text="",
            finish=FinishReason.STOP,
            used=self.used,
            prompt_tokens=len(self.resolved.prompt),
            completion_tokens=0,
            probabilities=tuple(probability / total for probability in probabilities),
        )


def read_request(card: ModelCard, loaded: LoadedModel, request: Request) -> Question | Completion:
    """What a request asks of the model; where something is wrong with it, a completion that says so."""
    try:
        return (_weighing if request.choices else _replying)(card, loaded, request)
    except ValueError as error:
        return _failed(str(error), _WEIGHED if request.choices else NO_DECODING)


def _replying(card: ModelCard, loaded: LoadedModel, request: Request) -> Question | Completion:
    used = resolve_decoding(request.decoding)
    asked, closed = request.decoding, request.closed
    prefix = card.answer_prefix or closed is not None
    text = render_prompt(
        loaded.tokenizer, card.chat_template, request, answer_prefix=prefix, options=card.template_options
    )
    start = request.reply_start if prefix else ""
    beginning = thought_begun(text.removesuffix(start)) + start
    marks = special_marks(loaded.tokenizer)
    enough = _enough(loaded, request, beginning, marks)
    if closed is None:
        prompt, constraint = tuple(encode_prompt(loaded.tokenizer, card.chat_template, text)), None
    else:
        encode = partial(encode_prompt, loaded.tokenizer, card.chat_template)
        prompt, constraint = constrain(encode, text, closed, loaded.ends)
        enough = constraint.enough
    room = loaded.window - asked.max_new_tokens
    if len(prompt) > room:
        excess = (
            f"the prompt has {len(prompt)} tokens, and model {card.name} has room for {room}: "
            f"its window of {loaded.window} less max_new_tokens {asked.max_new_tokens}"
        )
        return replace(_failed(excess, used), prompt_tokens=len(prompt))
    sampling = Sampling(temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p)
    resolved = ResolvedRequest(
        prompt=prompt,
        num_beams=asked.num_beams,
        sampling=sampling if asked.do_sample else None,
        max_new_tokens=asked.max_new_tokens,
        ends=loaded.ends,
        seed=request.seed,
        enough=enough,
        allowed=None if constraint is None else constraint.allowed,
    )
    question = Question(resolved=resolved, used=used, beginning=beginning, marks=marks)
    return replace(question, named=partial(_named, constraint, closed)) if constraint and closed else question


def _named(constraint: Constraint, closed: ClosedReply, reply: Sequence[int]) -> str | None:
    named = constraint.named(reply)
    return None if named is None else closed.separator.join(named)


def _weighing(card: ModelCard, loaded: LoadedModel, request: Request) -> Question | Completion:
    """The request's choices behind its ``reply_start``.

    The reply is begun whatever the card says: a chat model's own first token is seldom an option.
    """
    begun = render_prompt(
        loaded.tokenizer, card.chat_template, request, answer_prefix=True, options=card.template_options
    )
    texts = [encode_prompt(loaded.tokenizer, card.chat_template, begun + choice) for choice in request.choices]
    longest = max(map(len, texts))
    if longest > loaded.window:
        excess = f"the prompt has {longest} tokens, and model {card.name} has a window of {loaded.window}"
        return _failed(excess, _WEIGHED)
    # Taken from the whole text: a tokenizer may join the blank before a choice to it.
    columns = zip(*texts, strict=False)
    prompt = tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
    choices = tuple(tuple(text[len(prompt) :]) for text in texts)
    resolved = ResolvedRequest(prompt=prompt, choices=choices, max_new_tokens=max(map(len, choices)))
    return Question(resolved=resolved, used=_WEIGHED)


def _enough(
    loaded: LoadedModel, request: Request, beginning: str, marks: frozenset[int]
) -> Callable[[Sequence[int]], bool] | None:
    """The request's question whether the text will do, asked of tokens."""
    enough = request.enough
    if enough is None:
        return None
    return lambda tokens: enough(beginning + decode_reply(loaded.tokenizer, tokens, marks))


def _failed(reason: str, used: UsedDecoding) -> Completion:
    return Completion(text="", finish=FinishReason.ERROR, used=used, error=reason)
