"""A packed forward against plain forwards of whole sequences: chunks, trees, windows, neighbours."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers import attention
from defsurvey.workers.engines.transformers.attention import forward
from defsurvey.workers.engines.transformers.batch import Piece, build
from defsurvey.workers.engines.transformers.buffers import Buffers
from defsurvey.workers.engines.transformers.kv import KV, KVStore
from defsurvey.workers.engines.transformers.pool import Pool, PooledKV, store_for
from defsurvey.workers.engines.transformers.support import adopt
from tests.workers.engine.conftest import Tiny
from tests.workers.engine.tiny_models import ARCHITECTURES, VOCABULARY, tiny_model


class Conversation:
    """One request's sequences beside its buffer."""

    def __init__(self, store: KVStore, prompt: list[int]) -> None:
        self.kv: KV = store.open(len(prompt))
        self.prompt = prompt
        self.done = 0
        self.rows = [list(prompt)]

    def chunk(self, length: int) -> Piece:
        """The next piece of the prompt."""
        start, stop = self.done, min(len(self.prompt), self.done + length)
        self.done = stop
        tokens = self.prompt[start:stop]
        return Piece(self.kv, tokens, self.kv.extend(len(tokens)), start, tree=False, logits=stop == len(self.prompt))

    def grow(self, rng: random.Random, beams: int) -> Piece:
        """Beams on random parents."""
        parents = [rng.randrange(len(self.rows)) for _ in range(beams)]
        tokens = [rng.randrange(VOCABULARY) for _ in range(beams)]
        at, first = self.kv.branch(parents), len(self.rows[0])
        self.rows = [[*self.rows[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        return Piece(self.kv, tokens, at, first, tree=True, logits=True)


def _plain(model: Any, sequences: list[list[int]]) -> Tensor:
    with torch.inference_mode():
        return torch.cat(
            [model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1:] for tokens in sequences]
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_a_packed_forward_is_each_request_alone(one_thread: None, architecture: str, pooled: bool) -> None:
    """Prompts of 1 to 300 tokens in chunks beside trees of 1 to 5 beams, 30 forwards, with compaction on the way."""
    model = tiny_model(architecture)
    expected = tiny_model(architecture)  # a second copy, which the packed attention has never touched
    rng = random.Random(7)
    store = store_for(adopt(model), 4096, pooled=pooled)
    talks = [Conversation(store, [rng.randrange(VOCABULARY) for _ in range(n)]) for n in (1, 5, 40, 133, 300)]
    for _ in range(30):
        pieces, sequences = [], []
        for beams, talk in enumerate(talks, start=1):
            if talk.done < len(talk.prompt):
                pieces.append(talk.chunk(rng.choice([1, 16, 90])))
                sequences += [talk.prompt] if pieces[-1].logits else []
            else:
                pieces.append(talk.grow(rng, beams))
                sequences += talk.rows
        batch = build(pieces, device=store.layout.device)
        logits = forward(model, batch)
        assert sum(batch.counts) == len(sequences) == len(logits)
        if sequences:
            torch.testing.assert_close(logits, _plain(expected, sequences), rtol=1e-4, atol=1e-4)
    assert store.compactions > 0


def test_a_neighbour_whose_keys_are_no_numbers_does_no_harm(one_thread: None, llama: Tiny) -> None:
    """One who was let in first, and holds the first places of the pool; nobody is filled up with them."""
    store = Pool(llama.layout, 1024)
    ill, well = (Conversation(store, [5] * length) for length in (40, 30))
    forward(llama.model, build([ill.chunk(40), well.chunk(29)], device=store.layout.device))
    healthy = forward(llama.model, build([well.chunk(1)], device=store.layout.device))
    assert isinstance(ill.kv, PooledKV)
    for layer in store.layers:
        layer[torch.from_numpy(ill.kv.slots)] = torch.nan
    rng = random.Random(3)
    after = forward(llama.model, build([ill.grow(rng, 1), well.grow(rng, 2)], device=store.layout.device))
    assert torch.isfinite(healthy).all()
    assert torch.isnan(after[0]).any()
    assert torch.isfinite(after[1:]).all()


def test_without_a_description_the_library_attends(one_thread: None) -> None:
    """An adopted model used by itself gives what it gave before, masks for padding included."""
    model, untouched = tiny_model("llama"), tiny_model("llama")
    adopt(model)
    assert model.config._attn_implementation == attention.NAME
    ids = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    with torch.inference_mode():
        one = model(input_ids=ids, attention_mask=mask).logits[:, -1]
        other = untouched(input_ids=ids, attention_mask=mask).logits[:, -1]
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_short_number_formats_stay_close(one_thread: None, architecture: str) -> None:
    """In bfloat16 packed logits are as near to float32 ones as plain bfloat16 logits are, give or take a half."""
    exact = tiny_model(architecture)
    model = tiny_model(architecture).to(torch.bfloat16)
    plain = tiny_model(architecture).to(torch.bfloat16)
    rng = random.Random(1)
    store = Buffers(adopt(model))
    prompts = [[rng.randrange(VOCABULARY) for _ in range(length)] for length in (9, 30, 64, 100)]
    talks = [Conversation(store, prompt) for prompt in prompts]
    batch = build([talk.chunk(200) for talk in talks], device=store.layout.device)
    truth = _plain(exact, prompts)
    packed_error = (forward(model, batch).float() - truth).abs().mean()
    plain_error = (_plain(plain, prompts).float() - truth).abs().mean()
    assert packed_error < 1.5 * plain_error
