"""One request at a time, by the library's own ``generate``: for models that the batch cannot serve."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from defsurvey.workers.engines.transformers.core.decoding import SWITCHED_OFF
from defsurvey.workers.engines.transformers.core.loading import LoadedModel
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest

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
    import torch

    prompt = len(request.prompt)
    ids = torch.tensor([request.prompt], device=loaded.model.device)
    enough = request.enough if request.num_beams == 1 else None

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
        )
    reply: list[int] = sequence[0, prompt:].tolist()
    for position, token in enumerate(reply):
        if token in request.ends:  # what follows the end is padding
            return reply[: position + 1]
    return reply


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
