"""Arrays on their way to a device: what arrives, and how many copies it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from defsurvey.workers.engines.transformers.attention import forward
from defsurvey.workers.engines.transformers.batch import Piece, build
from defsurvey.workers.engines.transformers.beams import start
from defsurvey.workers.engines.transformers.pool import Pool
from defsurvey.workers.engines.transformers.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.selection import select
from defsurvey.workers.engines.transformers.selector import Draws
from defsurvey.workers.engines.transformers.support import adopt
from tests.workers.engine.tiny_models import ARCHITECTURES, VOCABULARY, tiny_model

#: A device without memory: shapes and devices are checked, nothing is computed.
ELSEWHERE = torch.device("meta")


class Copies(TorchDispatchMode):
    """Counts tensors that go from the host to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [one for one in args if isinstance(one, torch.Tensor)]
        if isinstance(made, torch.Tensor) and made.device == ELSEWHERE:
            self.count += any(one.device.type == "cpu" for one in given)
        return made


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_forward_and_its_choices_take_few_copies_however_many_are_asked(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    model = tiny_model(architecture)
    layout = adopt(model)
    model.to(ELSEWHERE)
    store = Pool(replace(layout, device=ELSEWHERE), 4096)
    counts = []
    for requests in (5, 20):
        kvs = [store.open(64) for _ in range(requests)]
        beams = [1 + number % 5 for number in range(requests)]
        searches = [
            start(
                ResolvedRequest(
                    prompt=(1, 2), num_beams=width, sampling=Sampling(top_k=5, top_p=0.9) if number % 2 else None
                ),
                Draws.HASHED,
            )
            for number, width in enumerate(beams)
        ]
        pieces = []
        for kv, width in zip(kvs, beams, strict=True):
            kv.extend(10)
            pieces.append(Piece(kv, [3] * width, kv.branch([0] * width), 10, tree=True, logits=True))
        with Copies() as copies, torch.inference_mode():
            logits = forward(model, build(pieces, device=ELSEWHERE))
            assert (logits.device, logits.shape) == (ELSEWHERE, (sum(beams), VOCABULARY))
            with pytest.raises(RuntimeError, match="meta"):  # there is nothing to be copied back
                select(searches, logits, beams)
        counts.append(copies.count)
    # what is packed; places and one mask for the one bucket, for each sliding window; who chooses, by what, from what
    assert counts == [6, 6]
