"""Ways of serving the same requests: ``generate`` alone, ``generate`` in groups, the batch.

Each returns how many tokens its replies have. Deliberately measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch
from defsurvey.workers.engines.transformers.core.kv import Layout

from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core import plain
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.loading import LoadedModel
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.scheduler import Limits


class Nobody:
    """A delivery that only counts."""

    def __init__(self) -> None:
        self.tokens = 0

    def cancelled(self) -> bool:
        """Never."""
        return False

    def reply(self, tokens: list[int]) -> None:
        """Count."""
        self.tokens += len(tokens)

    def fail(self, error: Exception) -> None:
        """A benchmark that fails measures nothing."""
        raise error


def alone(loaded: LoadedModel, requests: Sequence[ResolvedRequest]) -> int:
    """``generate``, one request at a time."""
    return sum(len(plain.generate(loaded, request, lambda: False)) for request in requests)


def grouped(loaded: LoadedModel, requests: Sequence[ResolvedRequest]) -> int:
    """``generate`` on all requests of equal settings at once, shorter prompts filled up on the left."""

    def kind(request: ResolvedRequest) -> tuple[int, bool]:
        return request.num_beams, request.sampling is not None

    tokens = 0
    with torch.inference_mode():
        for _, group in groupby(sorted(requests, key=kind), key=kind):
            members = list(group)
            longest = max(len(member.prompt) for member in members)
            gaps = [longest - len(member.prompt) for member in members]
            ids = [[loaded.padding] * gap + list(member.prompt) for gap, member in zip(gaps, members, strict=True)]
            mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
            torch.manual_seed(0)
            output = loaded.model.generate(
                torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                generation_config=plain.settings(members[0], padding=loaded.padding),
            )
            tokens += int(output.shape[0] * (output.shape[1] - longest))
    return tokens


def batched(
    loaded: LoadedModel, room: tuple[Layout, Limits], requests: Sequence[ResolvedRequest], seen: list[Counters]
) -> int:
    """The batch, all requests at once, by a model that ``prepare`` was called for."""
    layout, limits = room
    # Prompts of one request each are not asked again.
    decoder = Decoder(loaded.model, layout, replace(limits, kept_bytes=0))
    nobody = Nobody()
    for request in requests:
        decoder.add(request, nobody)
    while decoder.unfinished:
        decoder.step()
    seen.append(decoder.counters())
    decoder.close()
    return nobody.tokens
