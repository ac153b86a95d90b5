"""From a request to the tokens to be continued, and from the tokens of a reply to a completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.workers.engines.base import NO_DECODING, Completion, FinishReason, Request
from defsurvey.workers.engines.transformers.core.decoding import resolve_decoding
from defsurvey.workers.engines.transformers.core.loading import LoadedModel
from defsurvey.workers.engines.transformers.core.prompt import encode_prompt, render_prompt
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.thoughts import decode_reply, special_marks, thought_begun
from defsurvey.workers.models import ModelCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that can be answered."""

    resolved: ResolvedRequest
    used: UsedDecoding
    beginning: str  #: what the reply was begun with, and a thought that the prompt began
    marks: frozenset[int]  #: special tokens that a reply's text keeps

    def completion(self, loaded: LoadedModel, reply: list[int]) -> Completion:
        """The completion that the tokens of a reply make."""
        if reply and reply[-1] in loaded.ends:
            finish = FinishReason.STOP
        else:
            finish = FinishReason.LENGTH if len(reply) == self.resolved.max_new_tokens else FinishReason.ENOUGH
        return Completion(
            text=self.beginning + decode_reply(loaded.tokenizer, reply, self.marks),
            finish=finish,
            used=self.used,
            prompt_tokens=len(self.resolved.prompt),
            completion_tokens=len(reply),
        )

    def failure(self, error: Exception) -> Completion:
        """The completion that says why there is no reply."""
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Completion(
            text="",
            finish=FinishReason.ERROR,
            used=self.used,
            prompt_tokens=len(self.resolved.prompt),
            error=reason,
        )


def read_request(card: ModelCard, loaded: LoadedModel, request: Request) -> Question | Completion:
    """What a request asks of the model; where something is wrong with it, a completion that says so."""
    try:
        used = resolve_decoding(request.decoding)
        text = render_prompt(
            loaded.tokenizer,
            card.chat_template,
            request,
            answer_prefix=card.answer_prefix,
            options=card.template_options,
        )
        prompt = encode_prompt(loaded.tokenizer, card.chat_template, text)
        asked = request.decoding
        sampling = Sampling(temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p)
        start = request.reply_start if card.answer_prefix else ""
        beginning = thought_begun(text.removesuffix(start)) + start
        marks = special_marks(loaded.tokenizer)
        resolved = ResolvedRequest(
            prompt=tuple(prompt),
            num_beams=asked.num_beams,
            sampling=sampling if asked.do_sample else None,
            max_new_tokens=asked.max_new_tokens,
            ends=loaded.ends,
            seed=request.seed,
            enough=_enough(loaded, request, beginning, marks),
        )
    except ValueError as error:
        return Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error=str(error))
    room = loaded.window - asked.max_new_tokens
    if len(prompt) > room:
        excess = (
            f"the prompt has {len(prompt)} tokens, and model {card.name} has room for {room}: "
            f"its window of {loaded.window} less max_new_tokens {asked.max_new_tokens}"
        )
        return Completion(text="", finish=FinishReason.ERROR, used=used, prompt_tokens=len(prompt), error=excess)
    return Question(resolved=resolved, used=used, beginning=beginning, marks=marks)


def _enough(
    loaded: LoadedModel, request: Request, beginning: str, marks: frozenset[int]
) -> Callable[[Sequence[int]], bool] | None:
    """The request's question whether the text will do, asked of tokens."""
    enough = request.enough
    if enough is None:
        return None
    return lambda tokens: enough(beginning + decode_reply(loaded.tokenizer, tokens, marks))
