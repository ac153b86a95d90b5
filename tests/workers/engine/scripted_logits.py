"""A language model whose logits are made up: as many ties, ends and near-certainties as a test wants."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from defsurvey.workers.engines.transformers.core.drawing import Draws
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.search import start
from defsurvey.workers.engines.transformers.core.selection import select

#: From the tokens so far, prompt included, to the logits of the next one.
Script = Callable[[tuple[int, ...]], Tensor]


class ScriptedConfig(PretrainedConfig):
    """The least that the library wants to know of a model."""

    model_type = "scripted"

    def __init__(self, vocab_size: int = 8, **settings: Any) -> None:
        self.vocab_size = vocab_size
        self.num_hidden_layers = 1
        super().__init__(**settings)


class ScriptedModel(PreTrainedModel, GenerationMixin):
    """Follows a script. It has no cache: every step sees whole sequences."""

    config_class = ScriptedConfig

    def __init__(self, script: Script, vocabulary: int) -> None:
        super().__init__(ScriptedConfig(vocab_size=vocabulary))
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.script = script

    def forward(self, input_ids: Tensor, **_: object) -> CausalLMOutputWithPast:
        logits = torch.stack([self.script(tuple(row)) for row in input_ids.tolist()])
        return CausalLMOutputWithPast(logits=logits[:, None])


def random_script(seed: int, vocabulary: int, *, levels: int | None, spread: float = 2.0) -> Script:
    """Logits that depend on the whole sequence; with ``levels`` they take only so many values, so that they tie."""

    def script(tokens: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((seed, tokens)) % 2**31)
        if levels is None:
            return torch.randn(vocabulary, generator=generator) * spread
        return torch.randint(0, levels, (vocabulary,), generator=generator).float()

    return script


def generate_settings(request: ResolvedRequest) -> GenerationConfig:
    """What ``generate`` has to be told for a request, nothing left open."""
    sampled = request.sampling
    sampling = {name: getattr(sampled, name) for name in ("temperature", "top_k", "top_p")} if sampled else {}
    return GenerationConfig(
        num_beams=request.num_beams,
        do_sample=sampled is not None,
        max_new_tokens=request.max_new_tokens,
        eos_token_id=list(request.ends) or None,
        pad_token_id=0,
        **sampling,
    )


def generated(model: Any, request: ResolvedRequest, *, cache: bool = True) -> list[int]:
    """The reply that the library itself gives to a request, what fills up after its end removed."""
    torch.manual_seed(request.seed)
    ids = torch.tensor([request.prompt])
    allowed, prompt = request.allowed, len(request.prompt)
    with torch.no_grad():
        sequence = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=generate_settings(request),
            use_cache=cache,
            prefix_allowed_tokens_fn=allowed and (lambda _, tokens: list(allowed(tokens[prompt:].tolist()))),
        )
    reply: list[int] = sequence[0, len(request.prompt) :].tolist()
    for position, token in enumerate(reply):
        if token in request.ends:
            return reply[: position + 1]
    return reply


def searched(script: Script, request: ResolvedRequest, draws: Draws = Draws.LIBRARY) -> list[int]:
    """The reply that our own search finds, fed from the same script."""
    return searched_together(script, [request], draws)[0]


def searched_together(script: Script, requests: Sequence[ResolvedRequest], draws: Draws) -> list[list[int]]:
    """The replies that our own searches find, all going on at the same time."""
    searches = [start(request, draws) for request in requests]
    under_way: dict[int, list[tuple[int, ...]]] = {place: [one.prompt] for place, one in enumerate(requests)}
    while under_way:
        logits = torch.stack([script(tokens) for sequences in under_way.values() for tokens in sequences])
        counts = [len(sequences) for sequences in under_way.values()]
        following = select([searches[place] for place in under_way], logits, counts)
        before, under_way = under_way, {}
        for (place, sequences), rows in zip(before.items(), following, strict=True):
            if isinstance(rows, Exception):
                raise rows
            if rows is not None:
                pairs = zip(rows.parents, rows.tokens, strict=True)
                under_way[place] = [(*sequences[parent], token) for parent, token in pairs]
    return [search.reply() for search in searches]
