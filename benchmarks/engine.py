"""The batch against ``generate``: the same requests, the same weights, the same process, back to back.

Run it with nothing else on the machine::

    python -m benchmarks.engine --cache .defsurvey/models --threads 2 --repeat 3

``generate`` takes its requests one at a time, and, for requests of fixed size, once more grouped by equal decoding
settings, which is all that it can batch. With ``--sample N`` it takes every Nth request only, and its time is scaled.
Where there is a GPU, models of random weights follow on it, see ``benchmarks.gpu``.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.ways import alone, batched, grouped
from benchmarks.workloads import Interviews, Recording, fixed, interviews
from storage.run import MemoryOrder
from workers.engines.base import Completion, Request
from workers.engines.transformers.answering import read_request
from workers.engines.transformers.counters import Counters
from workers.engines.transformers.engine import TransformersEngine, prepare
from workers.engines.transformers.freeing import give_back
from workers.engines.transformers.loading import LoadedModel, load_model
from workers.engines.transformers.request import ResolvedRequest
from workers.engines.transformers.threads import in_passing
from workers.engines.transformers.weights import find_weights
from workers.models import ModelCard, find_card, read_cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way of serving one workload, once."""

    seconds: float  #: wall clock
    cpu_seconds: float  #: of all threads of this process
    tokens: int  #: of replies
    peak_mb: float  #: resident memory at its highest


def measured(work: Callable[[], int]) -> Measured:
    """Run something that returns how many tokens it made, in a thread of its own."""
    gc.collect()
    give_back()
    _forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = in_passing(work)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return Measured(seconds=seconds, cpu_seconds=cpu_seconds, tokens=tokens, peak_mb=_peak())


def interviewed(engine: TransformersEngine, talks: Interviews, asked: list[Request]) -> int:
    """The engine as a worker uses it; what it was asked goes into ``asked``."""
    recording = Recording(engine)
    talks.conduct(recording)
    asked += recording.requests
    return sum(future.result().completion_tokens or 0 for future in recording.futures)


class Benchmark:
    """Measures workload after workload and writes a line of JSON for each.

    Each way of serving is given a model of its own, loaded for it and given up afterwards: the batch lays weights out
    anew, and ``generate`` is measured as the library comes.
    """

    def __init__(
        self, card: ModelCard, load: Callable[[], LoadedModel], *, threads: int, repeat: int, sample: int
    ) -> None:
        self._card, self._load = card, load
        self._threads, self._repeat, self._sample = threads, repeat, sample

    def fixed(self, name: str, *, requests: int, new_tokens: int, beams: bool) -> None:
        """Requests of fixed size: alone, grouped, batched, in turn."""
        seen: list[Counters] = []
        runs: dict[str, list[Measured]] = {"alone": [], "grouped": [], "batched": []}
        for _ in range(self._repeat):
            loaded = in_passing(self._load)
            made = fixed(loaded.tokenizer, requests=requests, new_tokens=new_tokens, beams=beams)
            part = _every(made, self._sample)
            lone = measured(partial(alone, loaded, part))
            runs["alone"].append(_scaled(lone, requests / len(part)))
            runs["grouped"].append(measured(partial(grouped, loaded, made)))
            loaded = in_passing(self._load)
            room = in_passing(partial(prepare, loaded))
            runs["batched"].append(measured(partial(batched, loaded, room, made, seen)))
        self._report(name, runs, seen)

    def interviews(self, name: str, *, participants: int, first: int, order: MemoryOrder) -> None:
        """Interviews: the engine asks, then ``generate`` is given requests that came up.

        Each is asked alone once, a part of them in every round, so that both ways see the same hours of a machine
        whose speed changes.
        """
        talks = interviews(participants=participants, first=first, order=order)
        seen: list[Counters] = []
        batched: list[Measured] = []
        parts: list[Measured] = []
        asked: list[ResolvedRequest] = []
        for number in range(self._repeat):
            loaded = in_passing(self._load)
            engine = TransformersEngine(self._card, loaded, threads=self._threads)
            came: list[Request] = []
            batched.append(measured(partial(interviewed, engine, talks, came)))
            seen.append(engine.counters())
            engine.close()
            loaded = in_passing(self._load)
            asked = asked or _resolved(self._card, loaded, came)
            parts.append(measured(partial(alone, loaded, _every(asked, self._repeat * self._sample, number))))
        whole = replace(
            parts[0],
            seconds=self._sample * sum(one.seconds for one in parts),
            cpu_seconds=self._sample * sum(one.cpu_seconds for one in parts),
            tokens=self._sample * sum(one.tokens for one in parts),
        )
        self._report(name, {"alone": [whole] * self._repeat, "batched": batched}, seen)

    def _report(self, name: str, runs: dict[str, list[Measured]], seen: list[Counters]) -> None:
        last = seen[-1]
        ratios = [one.seconds / other.seconds for one, other in zip(runs["alone"], runs["batched"], strict=True)]
        cpu = [one.cpu_seconds / other.cpu_seconds for one, other in zip(runs["alone"], runs["batched"], strict=True)]
        line: dict[str, Any] = {"workload": name, "ratio": _median(ratios), "cpu_ratio": _median(cpu)}
        for way, measurements in runs.items():
            line[f"{way}_seconds"] = _median([one.seconds for one in measurements])
            line[f"{way}_cpu_seconds"] = _median([one.cpu_seconds for one in measurements])
            line[f"{way}_tokens"] = _median([one.tokens for one in measurements])
            line[f"{way}_peak_mb"] = _median([one.peak_mb for one in measurements])
        line |= {
            "rows_per_step": round(last.rows_per_step, 1),
            "steps": last.steps,
            "prefilled": last.prefilled_tokens,
            "reused": last.reused_tokens,
            "peak_kv_mb": round(last.peak_kv_bytes / 1e6, 1),
            "phases": {phase: round(seconds, 2) for phase, seconds in last.seconds.items()},
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _resolved(card: ModelCard, loaded: LoadedModel, requests: Sequence[Request]) -> list[ResolvedRequest]:
    questions = [read_request(card, loaded, request) for request in requests]
    return [question.resolved for question in questions if not isinstance(question, Completion)]


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def _every(requests: Sequence[ResolvedRequest], sample: int, which: int = 0) -> list[ResolvedRequest]:
    """A part that holds every kind of request: runs of five, which have one to five beams."""
    part = [request for number, request in enumerate(requests) if number // 5 % sample == which]
    return part or list(requests)


def _scaled(one: Measured, factor: float) -> Measured:
    return replace(
        one, seconds=one.seconds * factor, cpu_seconds=one.cpu_seconds * factor, tokens=round(one.tokens * factor)
    )


def _forget_peak() -> None:
    """Let the kernel measure peak memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> float:
    """Highest resident memory since then, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1e3


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".defsurvey/models"), help="where weights are kept")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sample", type=int, default=1, help="generate alone takes one in so many requests")
    parser.add_argument("--only", default="", help="part of a workload's name")
    asked = parser.parse_args()
    card = replace(find_card(asked.model, read_cards()), dtype=asked.dtype)
    weights = find_weights(card, asked.cache)
    torch.set_num_threads(asked.threads)
    versions = {name: version(name) for name in ("torch", "transformers")}
    sys.stdout.write(
        json.dumps({"model": asked.model, "dtype": asked.dtype, "threads": asked.threads, **versions}) + "\n"
    )
    bench = Benchmark(
        card,
        partial(load_model, card, weights, device="cpu"),
        threads=asked.threads,
        repeat=asked.repeat,
        sample=asked.sample,
    )
    workloads: dict[str, Callable[[str], None]] = {
        "20 x 40": lambda name: bench.fixed(name, requests=20, new_tokens=40, beams=True),
        "40 x 96": lambda name: bench.fixed(name, requests=40, new_tokens=96, beams=True),
        "20 x 40, no beams": lambda name: bench.fixed(name, requests=20, new_tokens=40, beams=False),
        "interviews, questions 1-8": lambda name: bench.interviews(
            name, participants=24, first=0, order=MemoryOrder.DRAWN
        ),
        "interviews, questions 31-38, drawn order": lambda name: bench.interviews(
            name, participants=24, first=30, order=MemoryOrder.DRAWN
        ),
        "interviews, questions 31-38, chronological": lambda name: bench.interviews(
            name, participants=24, first=30, order=MemoryOrder.CHRONOLOGICAL
        ),
    }
    for name, measure in workloads.items():
        if asked.only in name:
            measure(name)
    for quantisation in gpu.QUANTISATIONS if torch.cuda.is_available() else ():
        if asked.only in (name := f"{gpu.SHAPE}, {quantisation}"):
            line = gpu.measure(gpu.SHAPE, quantisation, torch.device("cuda:0"))
            sys.stdout.write(json.dumps({"workload": name, **line}) + "\n")


if __name__ == "__main__":
    main()
