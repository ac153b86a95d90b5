"""Whether a model can be served by the batch, and a runner computes what it does: found out by trying.

A model that does otherwise is refused with a reason and can still be served one request at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core import forward
from defsurvey.workers.engines.transformers.core.forward import LayerShape, Layout, TorchRunner
from defsurvey.workers.engines.transformers.core.runner import Copy, Row, Runner

#: Positions that depend on how long the longest sequence of a batch is: packed requests would change each other.
_UNSTEADY_ROPES = ("dynamic", "longrope")
#: What a layer may ask of attention and the batch does not compute.
_UNKNOWN_SETTINGS = ("s_aux", "position_bias")
#: Tensors that layers hand to attention and that change nothing: keys have their positions already. Any other may say
#: what a token sees, such as which keys were chosen for it, which only a long prompt would show.
_TOLD_IN_VAIN = ("position_ids", "cache_position")
#: How a configuration calls how many tokens a layer sees, and layers of that kind.
_SPANS = {"sliding_window": "sliding_attention", "attention_chunk_size": "chunked_attention"}
#: Largest difference between packed and plain logits, relative to the largest logit.
_TOLERANCE, _SHORT_TOLERANCE = 1e-3, 0.1
#: Lengths of the two prompts that are tried.
_LONG, _SHORT = 70, 7
#: Tokens for which there is room while a model is tried.
_ROOM = 512


class UnsupportedModel(Exception):
    """The batch cannot serve this model; the message says why."""


@dataclass(slots=True)
class Observed:
    """What the layers of one forward asked of attention."""

    shapes: dict[int, LayerShape] = field(default_factory=dict)
    calls: int = 0
    settings: set[str] = field(default_factory=set)
    windowed: set[int] = field(default_factory=set)  #: layers that ask for a window
    dtype: torch.dtype | None = None

    def note(self, layer: int, key: Tensor, value: Tensor, settings: dict[str, Any]) -> None:
        """One layer's call."""
        self.calls += 1
        self.shapes[layer] = LayerShape(key.shape[1], key.shape[-1])
        if key.shape != value.shape:
            self.settings.add("keys and values of different shapes")
        self.settings |= {name for name in _UNKNOWN_SETTINGS if settings.get(name) is not None}
        self.settings |= {
            name for name, value in settings.items() if isinstance(value, Tensor) and name not in _TOLD_IN_VAIN
        }
        if settings.get("sliding_window") is not None:
            self.windowed.add(layer)
        self.dtype = key.dtype


def adopt(model: Any) -> Layout:
    """Make a model use the packed attention, and return what it keeps for one token.

    Raises:
        UnsupportedModel: it cannot; the model is left as it was.
    """
    forward.register()
    before = model.config._attn_implementation
    try:
        layout = _try_out(model)
    except UnsupportedModel:
        model.set_attn_implementation(before)
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        # Whatever an unforeseen architecture makes of a packed row; its own errors come in every kind.
        model.set_attn_implementation(before)
        reason = " ".join(str(error).split())
        raise UnsupportedModel(f"a packed forward fails with {type(error).__name__}: {reason}") from error
    return layout


def _try_out(model: Any) -> Layout:
    text = model.config.get_text_config()
    ropes = _rope_types(getattr(text, "rope_parameters", None))
    if unsteady := ropes & set(_UNSTEADY_ROPES):
        raise UnsupportedModel(f"its positions ({', '.join(sorted(unsteady))}) depend on the longest of a batch")
    if not model._can_set_attn_implementation():
        raise UnsupportedModel("it does not attend through the library's attention interface")
    plain = plain_logits(model)  # by its own attention: under another name it may hand over what it makes use of itself
    model.set_attn_implementation(forward.NAME)
    layout, alone = _observe(model, text)
    _compare("under the batch's attention logits of a sequence by itself", alone, plain[:1], layout)
    runner = TorchRunner(model, layout, _ROOM * layout.bytes_per_token)
    _compare("packed logits", packed_logits(runner, vocabulary(model)), plain, layout)
    return layout


def _compare(what: str, logits: Tensor, plain: Tensor, layout: Layout) -> None:
    """Refuse a model whose logits are further from plain ones than sums in another order explain."""
    difference, largest = _differ(logits, plain)
    short = layout.dtype.itemsize == 2 or layout.quantised  # few bits are multiplied in 16
    if difference > (_SHORT_TOLERANCE if short else _TOLERANCE) * largest:
        raise UnsupportedModel(f"{what} differ from plain ones by {difference:.2g} of {largest:.2g}")


def _rope_types(parameters: Any) -> set[str]:
    """The kinds of rotary positions, which may be told for each kind of layer."""
    if not isinstance(parameters, dict):
        return set()
    kind = parameters.get("rope_type")
    return {str(kind)} if kind else set().union(*(_rope_types(inner) for inner in parameters.values()))


def _observe(model: Any, text: Any) -> tuple[Layout, Tensor]:
    """What a model keeps, and its logits behind the longer prompt, by itself, in float32, shape (1, vocabulary)."""
    observed, layers = Observed(), int(text.num_hidden_layers)
    ids = _row(model, _tried(vocabulary(model))[0][0])
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1, observed=observed).logits[0].float()
    if observed.calls != layers or sorted(observed.shapes) != list(range(layers)) or observed.dtype is None:
        raise UnsupportedModel(f"of its {layers} layers {observed.calls} attend through the library's interface")
    if observed.settings:
        raise UnsupportedModel(f"its attention asks for {', '.join(sorted(observed.settings))}")
    for name, kind in _SPANS.items():
        if not _limited(text, name, kind, observed) <= observed.windowed:
            raise UnsupportedModel(f"its {name} of {getattr(text, name)} tokens is only in its mask")
    shapes = tuple(observed.shapes[layer] for layer in range(layers))
    quantised = bool(getattr(model, "is_quantized", False))
    return Layout(layers=shapes, dtype=observed.dtype, device=model.device, quantised=quantised), logits


def _limited(text: Any, name: str, kind: str, observed: Observed) -> set[int]:
    """Layers that see fewer tokens than there can be, by the configuration; where it does not say which, one that asks.

    A layer may also leave it to the mask that the library makes for it, which a packed forward does not look at.
    """
    span, most = getattr(text, name, None), getattr(text, "max_position_embeddings", None)
    if not span or not getattr(text, f"use_{name}", True) or (most is not None and span >= most):
        return set()
    kinds = getattr(text, "layer_types", None)
    if not kinds:
        return observed.windowed or set(observed.shapes)
    return {layer for layer, of in enumerate(kinds) if of == kind}


def _differ(logits: Tensor, plain: Tensor) -> tuple[float, float]:
    """Largest difference of logits from plain ones, and the largest plain one."""
    return float((logits - plain).abs().max()), float(plain.abs().max())


def disagrees(runner: Runner, expected: Tensor) -> str:
    """How a runner's logits differ from those expected by more than sums in another order explain; empty: they do not.

    Args:
        runner: Computes steps of the model.
        expected: What ``packed_logits`` gives for another runner of the model, shape (6, vocabulary).
    """
    difference, largest = _differ(packed_logits(runner, expected.shape[-1]), expected)
    tolerance = _SHORT_TOLERANCE if runner.dtype.itemsize == 2 else _TOLERANCE
    return "" if difference <= tolerance * largest else f"its logits differ by {difference:.2g} of {largest:.2g}"


def packed_logits(runner: Runner, vocabulary: int) -> Tensor:
    """Logits of a runner in float32, shape (6, vocabulary): two prompts, then two beams of each."""
    prompts, beams = _tried(vocabulary)
    long, short = prompts
    size = runner.block_size
    free = iter(range(runner.blocks))
    tables = [np.array([next(free) for _ in range(-(-(len(prompt) + 1) // size))], np.int32) for prompt in prompts]
    # The longer prompt comes in two chunks, the second together with the shorter prompt.
    half = Row(long[: _LONG // 2], 0, tables[0][: -(-_LONG // 2 // size)], logits=False)
    rest = Row(long[_LONG // 2 :], _LONG // 2, tables[0], logits=True)
    runner.run([half])
    found = [runner.run([rest, Row(short, 0, tables[1], logits=True)]).float().clone()]
    rows, copies = [], []
    for prompt, table, tokens in zip(prompts, tables, beams, strict=True):
        second = np.append(table[:-1], np.int32(next(free)))
        copies.append(Copy(int(table[-1]), int(second[-1]), len(prompt) % size))
        rows += [
            Row([token], len(prompt), own, logits=True) for token, own in zip(tokens, (table, second), strict=True)
        ]
    runner.copy(copies)
    found.append(runner.run(rows).float().clone())
    return torch.cat(found)


def vocabulary(model: Any) -> int:
    """How many tokens there are."""
    return int(model.config.get_text_config().vocab_size)


def plain_logits(model: Any) -> Tensor:
    """What the model computes by itself of the same, one sequence at a time; in the same order and shape."""
    prompts, beams = _tried(vocabulary(model))
    sequences = [
        *prompts,
        *([*prompt, token] for prompt, tokens in zip(prompts, beams, strict=True) for token in tokens),
    ]
    with torch.inference_mode():
        plain = [
            model(input_ids=_row(model, tokens), use_cache=False, logits_to_keep=1).logits[0] for tokens in sequences
        ]
    return torch.cat(plain).float()


def _tried(vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
    """Two prompts, and for each the next tokens of two beams."""
    numbers = torch.Generator().manual_seed(0)
    prompts = [torch.randint(vocabulary, (length,), generator=numbers).tolist() for length in (_LONG, _SHORT)]
    return prompts, [torch.randint(vocabulary, (2,), generator=numbers).tolist() for _ in prompts]


def _row(model: Any, tokens: list[int]) -> Tensor:
    return torch.tensor([tokens], device=model.device)
