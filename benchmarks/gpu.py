"""The batch on a GPU against ``generate``: random weights of a real model's shape, and how far from the roofline.

Run it with nothing else on the card::

    python -m benchmarks.gpu
    python -m benchmarks.gpu --shape llama-2-13b --quantisation nf4

Random weights compute as fast as trained ones, and their replies never end of their own accord. Participants have 1 to
5 beams in turn, every other five of them are sampled. ``generate`` takes some of the requests, one at a time, and its
time is scaled.

The roofline is the least time that the same work could take: for prompts its operations at the rate of a large product
on the card, for each step of replies the larger of those and of reading the weights, and every request's prompt and one
of its beams, at the rate of a large copy. Both rates are measured first.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from defsurvey.workers.engines.transformers.core.kv import Layout
from defsurvey.workers.engines.transformers.gpu import paged
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.ways import alone, batched
from benchmarks.workloads import random_prompts
from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core.engine import prepare
from defsurvey.workers.engines.transformers.core.loading import LoadedModel, attend_without_plans
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.quantising import load_nf4

#: Shapes of models that the paper has, as their publishers' configurations give them.
SHAPE = "llama-2-7b"
SHAPES: dict[str, dict[str, int]] = {
    SHAPE: {},  # the library's defaults are those of this model
    "llama-3-8b": {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8},
    "llama-2-13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
}
QUANTISATIONS = ("none", "nf4")
#: So many consecutive requests have every number of beams, sampled and not.
_ALL_KINDS = 10
#: So many tokens of a reply are enough for a warm-up.
_WARM = 4
#: The paper's study, for each of its models: two cultures, 20 participants, 576 questions.
_PAPER_ANSWERS, _PAPER_PROMPT = 2 * 20 * 576, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Who is asked what."""

    participants: int = 40
    prompt: int = 700  #: mean tokens
    new_tokens: int = 150  #: of each reply, at least 2
    alone: int = _ALL_KINDS  #: ``generate`` takes so many of the requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What a device can do, as measured."""

    bytes_per_second: float  #: read and written, of a large copy
    operations_per_second: float  #: of a large product in bfloat16, an addition and a multiplication counted as two


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a model is."""

    weight_bytes: int
    parameters: int  #: numbers that a token is multiplied with: all but those of the embedding


def size_of(model: Any) -> Size:
    """Of a model that nothing has been laid out anew of; two numbers of 4 bits lie in a byte."""
    packed = sum(2 * one.numel() for one in model.parameters() if one.dtype is torch.uint8)
    whole = sum(one.numel() for one in model.parameters() if one.dtype is not torch.uint8)
    embedding = model.get_input_embeddings().weight.numel()
    return Size(weight_bytes=model.get_memory_footprint(), parameters=packed + whole - embedding)


def ceilings(device: torch.device) -> Ceilings:
    """Measure them; medians of five, on less where the device is no GPU."""
    large = device.type == "cuda"
    source = torch.randint(0, 255, (1 << 32 if large else 1 << 26,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    side = 8192 if large else 2048
    # A CPU that has no products in bfloat16 takes a minute for one; what it can do is what it does in float32.
    half = large or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    dtype = torch.bfloat16 if half else torch.float32
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    copying = _seconds(device, lambda: target.copy_(source))
    multiplying = _seconds(device, lambda: left @ right)
    return Ceilings(bytes_per_second=2 * len(source) / copying, operations_per_second=2 * side**3 / multiplying)


def random_model(shape: dict[str, int], quantisation: str, device: torch.device) -> LoadedModel:
    """A model of a shape with random weights, in bfloat16 or with its layers in 4 bits."""
    attend_without_plans(device)
    config = LlamaConfig(**shape)
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        model: Any = LlamaForCausalLM(config)
        torch.set_default_dtype(before)
    if quantisation == "nf4":
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            del model
            _forget(device)
            source = {"pretrained_model_name_or_path": folder, "local_files_only": True}
            model = load_nf4(source, dtype=torch.bfloat16, place=device)
    return LoadedModel(
        model=model.eval(),
        tokenizer=None,
        window=config.max_position_embeddings,
        ends=(),
        padding=0,
        dropped="none",
        description={},
    )


def floor(size: Size, layout: Layout, requests: Sequence[ResolvedRequest], most: Ceilings) -> float:
    """The least seconds in which a device could serve these requests, see above."""
    prompts = sum(len(request.prompt) for request in requests)
    rows = sum(request.num_beams for request in requests)
    seconds = 2 * size.parameters * prompts / most.operations_per_second
    for step in range(1, requests[0].max_new_tokens):
        read = size.weight_bytes + (prompts + step * len(requests)) * layout.bytes_per_token
        seconds += max(read / most.bytes_per_second, 2 * size.parameters * rows / most.operations_per_second)
    return seconds


def measure(shape: str, quantisation: str, device: torch.device, workload: Workload = Workload()) -> dict[str, Any]:
    """``generate`` on some of the requests, the batch on all of them, as a line of JSON has it."""
    loaded = random_model(SHAPES[shape], quantisation, device)
    requests = random_prompts(
        loaded.model.config.vocab_size,
        requests=workload.participants,
        prompt=workload.prompt,
        new_tokens=workload.new_tokens,
    )
    size = size_of(loaded.model)
    some = requests[: workload.alone]
    _timed(device, partial(alone, loaded, [replace(some[-1], max_new_tokens=_WARM)]))
    by_itself = _timed(device, partial(alone, loaded, some)) * len(requests) / len(some)

    room = prepare(loaded)
    seen: list[Counters] = []
    warm = [replace(one, prompt=one.prompt[::-1], max_new_tokens=_WARM) for one in requests]
    begun = [replace(one, max_new_tokens=1) for one in requests]
    _timed(device, partial(batched, loaded, room, warm, seen))
    prompts = _timed(device, partial(batched, loaded, room, begun, seen))
    together = _timed(device, partial(batched, loaded, room, requests, seen))

    most = ceilings(device)
    step = (together - prompts) / (workload.new_tokens - 1)
    prompt_rate = sum(len(one.prompt) for one in requests) / prompts
    least = floor(size, room[0], requests, most)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        **{name: version(name) for name in ("torch", "transformers")},
        "shape": shape,
        "quantisation": quantisation,
        "attention": _attention(loaded.model.config, room[0]),
        "ratio": round(by_itself / together, 2),
        "alone_seconds": round(by_itself, 2),
        "asked_alone": len(some),
        "batch_seconds": round(together, 2),
        "prompt_seconds": round(prompts, 2),
        "prompt_tokens_per_second": round(prompt_rate),
        "milliseconds_per_step": round(1e3 * step, 2),
        "rows_per_step": sum(one.num_beams for one in requests),
        "phases": {phase: round(seconds, 2) for phase, seconds in seen[-1].seconds.items()},
        "weights_gb": round(size.weight_bytes / 1e9, 2),
        "peak_kv_gb": round(seen[-1].peak_kv_bytes / 1e9, 2),
        "copy_gb_per_second": round(most.bytes_per_second / 1e9),
        "product_tflops": round(most.operations_per_second / 1e12, 1),
        "floor_seconds": round(least, 2),
        "of_the_roofline": round(least / together, 3),
        "paper_hours": {
            f"replies of {reply} tokens": round(
                _PAPER_ANSWERS * (reply * step / len(requests) + _PAPER_PROMPT / prompt_rate) / 3600, 2
            )
            for reply in (100, 512)
        },
    }


def _attention(config: Any, layout: Layout) -> str:
    shape = layout.layers[0]
    per_group = config.num_attention_heads // shape.heads
    if layout.device.type == "cpu":
        return "buffers"
    return "kernel" if paged.usable(layout.device, layout.dtype, shape, per_group) else "gathered"


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    work()
    return sorted(_timed(device, work) for _ in range(5))[2]


def _timed(device: torch.device, work: Callable[[], object]) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    """Read the command line, measure, write a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Workload()
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--shape", default=SHAPE, choices=SHAPES)
    parser.add_argument("--quantisation", default="none", choices=QUANTISATIONS)
    parser.add_argument("--participants", type=int, default=usual.participants)
    parser.add_argument("--prompt", type=int, default=usual.prompt, help="mean tokens of a prompt")
    parser.add_argument("--new", type=int, default=usual.new_tokens, help="tokens of each reply, at least 2")
    parser.add_argument("--alone", type=int, default=usual.alone, help="generate takes so many of the requests")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"argument --device: expected a device that torch finds here, got {asked.device}")
    workload = Workload(participants=asked.participants, prompt=asked.prompt, new_tokens=asked.new, alone=asked.alone)
    sys.stdout.write(json.dumps(measure(asked.shape, asked.quantisation, device, workload)) + "\n")


if __name__ == "__main__":
    main()
