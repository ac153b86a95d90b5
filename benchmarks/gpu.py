"""How a GPU serves random weights of a real shape: beside ``generate``, step by step, and how far from the roofline.

Run it with nothing else on the card, or for the host's share of a step without one::

    python -m benchmarks.gpu
    python -m benchmarks.gpu --shape llama-2-13b --quantisation nf4
    python -m benchmarks.gpu --host

Random weights compute as fast as trained ones, and their replies never end of their own accord. Participants have 1 to
5 beams in turn, every other five of them are sampled. ``generate`` takes some of the requests, one at a time, and its
time is scaled. Steps are timed replayed, started operation by operation, and as core computes them.

The roofline is the least time that the same work could take: for prompts its operations at the rate of a large product
on the card, for each step of replies the larger of those and of reading the weights, and every request's prompt and one
of its beams, at the rate of a large copy. Both rates are measured first.

The host's share is a step less what a GPU computes in it: deciding who is computed, saying so, and making of what was
chosen what is computed next.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import random_model
from benchmarks.workloads import random_prompts
from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core import plain
from defsurvey.workers.engines.transformers.core.adoption import adopt
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import Draws, draws_for
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.runner import Runner
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.gpu.graphs import Graphs
from defsurvey.workers.engines.transformers.gpu.runner import GpuRunner
from defsurvey.workers.engines.transformers.opening import in_memory

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
#: The shape of a model for the host's share: hardly any, since nothing is computed with it.
_HARDLY = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
_HARDLY |= {"num_attention_heads": 2}
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


def floor(size: Size, kept: int, requests: Sequence[ResolvedRequest], most: Ceilings) -> float:
    """The least seconds in which a device could serve these requests, see above; ``kept``: bytes for each token."""
    prompts = sum(len(request.prompt) for request in requests)
    rows = sum(request.num_beams for request in requests)
    seconds = 2 * size.parameters * prompts / most.operations_per_second
    for step in range(1, requests[0].max_new_tokens):
        read = size.weight_bytes + (prompts + step * len(requests)) * kept
        seconds += max(read / most.bytes_per_second, 2 * size.parameters * rows / most.operations_per_second)
    return seconds


class Nobody:
    """A delivery that nobody waits for; a benchmark that fails measures nothing."""

    def cancelled(self) -> bool:
        """Never."""
        return False

    def reply(self, tokens: list[int], probabilities: Sequence[float]) -> None:
        """Forget it."""

    def fail(self, error: Exception) -> None:
        """Raise what went wrong."""
        raise error


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What serving all requests took in one way."""

    runner: str
    prompts: float  #: seconds until each has its first token
    together: float  #: seconds for all of it
    seen: Counters


def measure(shape: str, quantisation: str, device: torch.device, workload: Workload = Workload()) -> dict[str, Any]:
    """``generate`` on some of the requests, the batch on all of them, as a line of JSON has it."""
    loaded = random_model(SHAPES[shape], quantisation, device)
    requests = random_prompts(
        loaded.model.config.vocab_size,
        requests=workload.participants,
        prompt=workload.prompt,
        new_tokens=workload.new_tokens,
    )
    size, some = size_of(loaded.model), requests[: workload.alone]
    _timed(device, partial(_alone, loaded, [replace(some[-1], max_new_tokens=4)]))
    by_itself = _timed(device, partial(_alone, loaded, some)) * len(requests) / len(some)
    kept = adopt(loaded.model).bytes_per_token
    taken = {name: _taken(device, *made, requests) for name, made in _ways(loaded)}
    first = next(iter(taken.values()))
    steps = {name: (of.together - of.prompts) / (workload.new_tokens - 1) for name, of in taken.items()}
    step = next(iter(steps.values()))
    most = ceilings(device)
    prompt_rate = sum(len(one.prompt) for one in requests) / first.prompts
    least = floor(size, kept, requests, most)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        **{name: version(name) for name in ("torch", "transformers")},
        "shape": shape,
        "quantisation": quantisation,
        "computed_by": {name: of.runner for name, of in taken.items()},
        "ratio": round(by_itself / first.together, 2),
        "alone_seconds": round(by_itself, 2),
        "asked_alone": len(some),
        "batch_seconds": round(first.together, 2),
        "prompt_seconds": round(first.prompts, 2),
        "prompt_tokens_per_second": round(prompt_rate),
        "milliseconds_per_step": {name: round(1e3 * seconds, 2) for name, seconds in steps.items()},
        "rows_per_step": sum(one.num_beams for one in requests),
        "phases": {phase: round(seconds, 2) for phase, seconds in first.seen.seconds.items()},
        "weights_gb": round(size.weight_bytes / 1e9, 2),
        "peak_kv_gb": round(first.seen.peak_kv_bytes / 1e9, 2),
        "copy_gb_per_second": round(most.bytes_per_second / 1e9),
        "product_tflops": round(most.operations_per_second / 1e12, 1),
        "floor_seconds": round(least, 2),
        "of_the_roofline": round(least / first.together, 3),
        "paper_hours": {
            f"replies of {reply} tokens": round(
                _PAPER_ANSWERS * (reply * step / len(requests) + _PAPER_PROMPT / prompt_rate) / 3600, 2
            )
            for reply in (100, 512)
        },
    }


def _ways(loaded: LoadedModel) -> Iterator[tuple[str, tuple[Runner, Limits]]]:
    """The ways in which steps are computed, each one gone before the next, which takes its memory."""
    opened = in_memory(loaded)
    assert opened.runner is not None
    runner: Any = opened.runner
    if not isinstance(runner, TorchRunner):
        yield "replayed", (runner, opened.limits)
        runner.graphs.launched = runner.selector.graphs.launched = "for comparison"
        yield "launched", (runner, opened.limits)
        runner.close()
        runner = TorchRunner(loaded.model, adopt(loaded.model), opened.limits.kv_bytes)
    yield "core", (runner, opened.limits)


def _alone(loaded: LoadedModel, requests: Sequence[ResolvedRequest]) -> int:
    return sum(len(plain.generate(loaded, request, lambda: False)) for request in requests)


def _taken(device: torch.device, runner: Runner, limits: Limits, requests: Sequence[ResolvedRequest]) -> Taken:
    # Prompts of one request each are not asked again.
    decoder = Decoder(runner, replace(limits, keep=False), draws_for(runner.device, runner.dtype))

    def serve(asked: Sequence[ResolvedRequest]) -> None:
        for request in asked:
            decoder.add(request, Nobody())
        while decoder.unfinished:
            decoder.step()

    serve([replace(one, prompt=one.prompt[::-1]) for one in requests])  # so that all is captured and compiled
    prompts = _timed(device, partial(serve, [replace(one, max_new_tokens=1) for one in requests]))
    together = _timed(device, partial(serve, requests))
    return Taken(runner=runner.name, prompts=prompts, together=together, seen=decoder.counters())


class Aside(Graphs):
    """Replays work by doing it, and adds up for how long: with a GPU the host only starts it."""

    seconds = 0.0

    def captured(self, work: Callable[[Tensor], None], inputs: Tensor) -> Any:
        """See ``Graphs``."""

        def replay() -> None:
            self.seconds += _timed(self.device, partial(work, inputs))

        return SimpleNamespace(replay=replay)


def host(workload: Workload = Workload(), steps: int = 100) -> dict[str, Any]:
    """Milliseconds of a step less those of what a GPU computes, over so many steps of all participants."""
    torch.set_num_threads(1)
    model = random_model(_HARDLY, "none", torch.device("cpu")).model
    layout, limits = adopt(model), Limits(rows=512, tokens=1 << 20, kv_bytes=1 << 27)
    runner: Any = GpuRunner(model, layout, limits.kv_bytes, kernel=False, graphs=partial(Aside, layout.device))
    aside = {"forward": runner.graphs, "select": runner.selector.graphs}
    decoder = Decoder(runner, limits, Draws.HASHED)
    requests = random_prompts(
        _HARDLY["vocab_size"], requests=workload.participants, prompt=workload.prompt, new_tokens=steps + 10
    )
    for request in requests:
        decoder.add(request, Nobody())
    for _ in range(5):  # prompts, and whatever is set up the first time
        decoder.step()

    def phases() -> dict[str, float]:
        return {
            name: total - getattr(aside.get(name), "seconds", 0.0) for name, total in decoder.counters().seconds.items()
        }

    def step() -> float:
        computed = sum(one.seconds for one in aside.values())
        return 1e3 * (_timed(layout.device, decoder.step) - sum(one.seconds for one in aside.values()) + computed)

    before, taken = phases(), sorted(step() for _ in range(steps))
    of_phases = {name: round(1e3 * (total - before[name]) / steps, 2) for name, total in phases().items()}
    return {
        "requests": decoder.unfinished,
        "beams": sum(one.num_beams for one in requests),
        "host_milliseconds": {
            "least": round(taken[0], 2),
            "median": round(statistics.median(taken), 2),
            "most": round(taken[-1], 2),
        },
        "phases": {name: each for name, each in of_phases.items() if each},
    }


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
    parser.add_argument("--host", action="store_true", help="the host's share of a step, without a GPU")
    parser.add_argument("--alone", type=int, default=usual.alone, help="generate takes so many of the requests")
    asked = parser.parse_args()
    workload = Workload(participants=asked.participants, prompt=asked.prompt, new_tokens=asked.new, alone=asked.alone)
    if asked.host:
        sys.stdout.write(json.dumps(host(workload)) + "\n")
        return
    device = torch.device(asked.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"argument --device: expected a device that torch finds here, got {asked.device}")
    sys.stdout.write(json.dumps(measure(asked.shape, asked.quantisation, device, workload)) + "\n")


if __name__ == "__main__":
    main()
