"""One request at a time, by the library's own ``generate``: for models that the batch cannot serve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.request import SWITCHED_OFF, ResolvedRequest
from defsurvey.workers.engines.transformers.core.search import Weighing
from defsurvey.workers.engines.transformers.core.selection import select

#: Torch has one random generator per process: between its seeding and the end of a generation nobody else may draw.
_DRAWING = threading.Lock()


def generate(loaded: LoadedModel, request: ResolvedRequest, stopped: Callable[[], bool]) -> list[int]:
    """The reply's token ids, the token that ends it included.

    Args:
        loaded: The model.
        request: What is to be continued.
        stopped: Asked after each token; once it says so the reply is not finished.

    Raises:
        RuntimeError: memory ran out, or the device failed.
    """
    prompt = len(request.prompt)
    ids = torch.tensor([request.prompt], device=loaded.model.device)
    enough = request.enough if request.num_beams == 1 else None

    def allowed(_row: int, sequence: Any) -> list[int]:
        assert request.allowed is not None
        return list(request.allowed(sequence[prompt:].tolist()))

    def done(rows: Any, _scores: Any) -> Any:
        ended = stopped() or (enough is not None and enough(rows[0, prompt:].tolist()))
        return torch.full((len(rows),), ended, device=rows.device)

    with _DRAWING, torch.inference_mode():
        torch.manual_seed(request.seed)
        sequence = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=settings(request, padding=loaded.padding),
            stopping_criteria=[done],
            prefix_allowed_tokens_fn=allowed if request.allowed else None,
        )
    reply: list[int] = sequence[0, prompt:].tolist()
    for position, token in enumerate(reply):
        if token in request.ends:  # what follows the end is padding
            return reply[: position + 1]
    return reply


def weigh(loaded: LoadedModel, request: ResolvedRequest) -> Sequence[float]:
    """How probable each of the request's choices is; raises what ``generate`` raises, and ValueError where none is."""
    search = Weighing(request.choices)
    rows = [list(request.prompt)]
    with torch.inference_mode():
        while True:
            ids = [torch.tensor([row], device=loaded.model.device) for row in rows]
            logits = [loaded.model(input_ids=one, use_cache=False, logits_to_keep=1).logits[0, -1] for one in ids]
            (following,) = select([search], torch.stack(logits), [len(rows)])
            if isinstance(following, Exception):
                raise following
            if following is None:
                return search.probabilities
            pairs = zip(following.parents, following.tokens, strict=True)
            rows = [[*rows[parent], token] for parent, token in pairs]


def settings(request: ResolvedRequest, *, padding: int) -> Any:
    """A request as a transformers ``GenerationConfig`` that leaves nothing open."""
    from transformers import GenerationConfig

    config: Any = GenerationConfig
    sampling = request.sampling
    drawn = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p} if sampling else {}
    return config(
        **{
            **SWITCHED_OFF,
            "num_beams": request.num_beams,
            "do_sample": sampling is not None,
            "max_new_tokens": request.max_new_tokens,
            "eos_token_id": list(request.ends) or None,
            "pad_token_id": padding,
            **drawn,
        }
    )
