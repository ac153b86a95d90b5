"""How probable each of several texts is as the beginning of a reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

import torch
from torch import Tensor

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.engines.transformers.core.failing import failed_for_good
from defsurvey.workers.engines.transformers.core.loading import LoadedModel
from defsurvey.workers.engines.transformers.core.prompt import encode_prompt, render_prompt
from defsurvey.workers.models import ModelCard

_GREEDY = UsedDecoding(num_beams=1, do_sample=False, temperature=None, top_p=None, max_new_tokens=1)


def weigh(card: ModelCard, loaded: LoadedModel, request: Request) -> Completion:
    """The probabilities of the request's choices behind its ``reply_start``, scaled to sum to 1.

    The reply is begun whatever the card says: a chat model's own first token is seldom an option. Raises what torch
    raises where the device has failed for good.
    """
    try:
        begun = render_prompt(
            loaded.tokenizer, card.chat_template, request, answer_prefix=True, options=card.template_options
        )
    except ValueError as error:
        return _failed(str(error))
    texts = [encode_prompt(loaded.tokenizer, card.chat_template, begun + choice) for choice in request.choices]
    longest = max(map(len, texts))
    if longest > loaded.window:
        return _failed(f"the prompt has {longest} tokens, and model {card.name} has a window of {loaded.window}")
    # Taken from the whole text: a tokenizer may join the blank before a choice to it.
    columns = zip(*texts, strict=False)
    prompt = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    try:
        found = _branch(loaded, prompt, {place: ids[len(prompt) :] for place, ids in enumerate(texts)})
    except (RuntimeError, MemoryError) as error:
        if failed_for_good(error):
            raise
        return _failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
    weights = [found[place] for place in range(len(texts))]
    total = sum(weights)
    if not total > 0:
        return _failed("no choice has a probability above 0")
    return Completion(
        text="",
        finish=FinishReason.STOP,
        used=_GREEDY,
        prompt_tokens=len(prompt),
        completion_tokens=0,
        probabilities=tuple(weight / total for weight in weights),
    )


def _branch(loaded: LoadedModel, prompt: Sequence[int], rest: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """Place -> the probability that the prompt goes on with the rest of that choice and with no other's.

    A choice that ends here while others go on has what they leave over.
    """
    following = _next_token(loaded, prompt)
    branches: dict[int, dict[int, Sequence[int]]] = {}
    ending = [place for place, ids in rest.items() if not ids]
    for place, ids in rest.items():
        if ids:
            branches.setdefault(ids[0], {})[place] = ids[1:]
    found: dict[int, float] = {}
    taken = 0.0
    for token, inside in branches.items():
        probability = float(following[token])
        taken += probability
        if len(inside) == 1:
            found.update(dict.fromkeys(inside, probability))
        else:
            deeper = _branch(loaded, [*prompt, token], inside)
            found.update({place: probability * share for place, share in deeper.items()})
    found.update(dict.fromkeys(ending, max(0.0, 1.0 - taken)))
    return found


def _next_token(loaded: LoadedModel, prompt: Sequence[int]) -> Tensor:
    ids = torch.tensor([list(prompt)], device=loaded.model.device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    return torch.softmax(logits.float(), dim=-1).cpu()


def _failed(reason: str) -> Completion:
    return Completion(text="", finish=FinishReason.ERROR, used=_GREEDY, error=reason)
