"""The batch against ``generate``: the same requests, the same weights, back to back, each in a process of its own.

Run it with nothing else on the machine::

    python -m benchmarks.engine --cache .defsurvey/models --threads 2 --repeat 3

``generate`` takes its requests one at a time, and, for requests of fixed size, once more grouped by equal decoding
settings, which is all that it can batch. With ``--sample N`` it takes every Nth request only, and its time is scaled.
A process loads the model first, which counts neither as time nor towards its peak of memory. Where there is a GPU,
models of random weights follow on it, see ``benchmarks.gpu``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu
from benchmarks.measuring import Measured, in_its_own_process, measured
from benchmarks.ways import alone, batched, grouped
from benchmarks.workloads import Interviews, Recording, fixed, interviews
from defsurvey.storage.runs.run import MemoryOrder
from defsurvey.workers.engines.base import Completion, Counters, Request
from defsurvey.workers.engines.transformers.core.answering import read_request
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine, prepare
from defsurvey.workers.engines.transformers.core.loading import LoadedModel, load_model
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.weights import Weights, find_weights
from defsurvey.workers.models import ModelCard, find_card, read_cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model that both ways serve."""

    card: ModelCard
    weights: Weights
    threads: int

    def load(self) -> LoadedModel:
        """As the library has it."""
        torch.set_num_threads(self.threads)
        return in_passing(partial(load_model, self.card, self.weights, device="cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Requests of fixed size."""

    requests: int
    new_tokens: int
    beams: bool

    def made(self, loaded: LoadedModel) -> list[ResolvedRequest]:
        """The requests."""
        return fixed(loaded.tokenizer, requests=self.requests, new_tokens=self.new_tokens, beams=self.beams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talks:
    """Interviews."""

    participants: int
    first: int
    order: MemoryOrder

    def made(self) -> Interviews:
        """The interviews."""
        return interviews(participants=self.participants, first=self.first, order=self.order)


#: What one way took, and what else its line has.
Took = tuple[Measured, dict[str, Any]]


def fixed_alone(subject: Subject, work: Fixed, sample: int) -> Took:
    """``generate``, one request at a time."""
    loaded = subject.load()
    made = work.made(loaded)
    part = _every(made, sample)
    return _scaled(measured(partial(alone, loaded, part)), len(made) / len(part)), {}


def fixed_grouped(subject: Subject, work: Fixed) -> Took:
    """``generate`` on groups."""
    loaded = subject.load()
    return measured(partial(grouped, loaded, work.made(loaded))), {}


def fixed_batched(subject: Subject, work: Fixed) -> Took:
    """The batch."""
    loaded = subject.load()
    made, room = work.made(loaded), in_passing(partial(prepare, loaded))
    seen: list[Counters] = []
    return measured(partial(batched, loaded, room, made, seen)), _counted(seen[-1])


def talks_batched(subject: Subject, talks: Talks) -> tuple[Took, list[Request]]:
    """The engine as a worker uses it, and what it was asked."""
    engine = TransformersEngine(subject.card, subject.load(), threads=subject.threads)
    recording, made = Recording(engine), talks.made()

    def conduct() -> int:
        made.conduct(recording)
        return sum(future.result().completion_tokens or 0 for future in recording.futures)

    took = measured(conduct), _counted(engine.counters())
    engine.close()
    return took, recording.requests


def talks_alone(subject: Subject, came: Sequence[Request], part: int, which: int) -> Took:
    """``generate`` on one in ``part`` of the requests that came up, one at a time."""
    loaded = subject.load()
    questions = [read_request(subject.card, loaded, request) for request in came]
    asked = [question.resolved for question in questions if not isinstance(question, Completion)]
    return measured(partial(alone, loaded, _every(asked, part, which))), {}


class Benchmark:
    """Measures workload after workload and writes a line of JSON for each."""

    def __init__(self, subject: Subject, *, repeat: int, sample: int) -> None:
        self._subject = subject
        self._repeat, self._sample = repeat, sample

    def fixed(self, name: str, work: Fixed) -> None:
        """Requests of fixed size: alone, grouped, batched, in turn."""
        runs: dict[str, list[Took]] = {"alone": [], "grouped": [], "batched": []}
        for _ in range(self._repeat):
            runs["alone"].append(in_its_own_process(fixed_alone, self._subject, work, self._sample))
            runs["grouped"].append(in_its_own_process(fixed_grouped, self._subject, work))
            runs["batched"].append(in_its_own_process(fixed_batched, self._subject, work))
        _report(name, runs)

    def interviews(self, name: str, talks: Talks) -> None:
        """Interviews: the engine asks, then ``generate`` is given requests that came up.

        Each is asked alone once, a part of them in every round, so that both ways see the same hours of a machine
        whose speed changes.
        """
        batch: list[Took] = []
        parts: list[Measured] = []
        came: list[Request] = []
        for number in range(self._repeat):
            took, asked = in_its_own_process(talks_batched, self._subject, talks)
            batch.append(took)
            came = came or asked
            part = in_its_own_process(talks_alone, self._subject, came, self._repeat * self._sample, number)
            parts.append(part[0])
        whole = Measured(
            seconds=self._sample * sum(one.seconds for one in parts),
            cpu_seconds=self._sample * sum(one.cpu_seconds for one in parts),
            tokens=self._sample * sum(one.tokens for one in parts),
            peak_mb=parts[0].peak_mb,
        )
        _report(name, {"alone": [(whole, {})] * self._repeat, "batched": batch})


def _report(name: str, runs: dict[str, list[Took]]) -> None:
    measurements = {way: [one for one, _ in took] for way, took in runs.items()}
    pairs = list(zip(measurements["alone"], measurements["batched"], strict=True))
    line: dict[str, Any] = {
        "workload": name,
        "ratio": _median([one.seconds / other.seconds for one, other in pairs]),
        "cpu_ratio": _median([one.cpu_seconds / other.cpu_seconds for one, other in pairs]),
        "memory_ratio": _median([other.peak_mb / one.peak_mb for one, other in pairs]),
    }
    for way, of_way in measurements.items():
        line[f"{way}_seconds"] = _median([one.seconds for one in of_way])
        line[f"{way}_cpu_seconds"] = _median([one.cpu_seconds for one in of_way])
        line[f"{way}_tokens"] = _median([one.tokens for one in of_way])
        line[f"{way}_peak_mb"] = _median([one.peak_mb for one in of_way])
    sys.stdout.write(json.dumps(line | runs["batched"][-1][1]) + "\n")
    sys.stdout.flush()


def _counted(last: Counters) -> dict[str, Any]:
    return {
        "rows_per_step": round(last.rows_per_step, 1),
        "steps": last.steps,
        "prefilled": last.prefilled_tokens,
        "reused": last.reused_tokens,
        "peak_kv_mb": round(last.peak_kv_bytes / 1e6, 1),
        "phases": {phase: round(seconds, 2) for phase, seconds in last.seconds.items()},
    }


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
    card = find_card(asked.model, read_cards()).model_copy(update={"dtype": asked.dtype})
    subject = Subject(card=card, weights=find_weights(card, asked.cache), threads=asked.threads)
    versions = {name: version(name) for name in ("torch", "transformers")}
    sys.stdout.write(
        json.dumps({"model": asked.model, "dtype": asked.dtype, "threads": asked.threads, **versions}) + "\n"
    )
    bench = Benchmark(subject, repeat=asked.repeat, sample=asked.sample)
    fixed_sizes = {
        "20 x 40": Fixed(requests=20, new_tokens=40, beams=True),
        "40 x 96": Fixed(requests=40, new_tokens=96, beams=True),
        "20 x 40, no beams": Fixed(requests=20, new_tokens=40, beams=False),
    }
    of_people = {
        "interviews, questions 1-8": Talks(participants=24, first=0, order=MemoryOrder.DRAWN),
        "interviews, questions 31-38, drawn order": Talks(participants=24, first=30, order=MemoryOrder.DRAWN),
        "interviews, questions 31-38, chronological": Talks(participants=24, first=30, order=MemoryOrder.CHRONOLOGICAL),
    }
    workloads: dict[str, Callable[[], None]] = {
        **{name: partial(bench.fixed, name, work) for name, work in fixed_sizes.items()},
        **{name: partial(bench.interviews, name, talks) for name, talks in of_people.items()},
    }
    for name, measure in workloads.items():
        if asked.only in name:
            measure()
    for quantisation in gpu.QUANTISATIONS if torch.cuda.is_available() else ():
        if asked.only in (name := f"{gpu.SHAPE}, {quantisation}"):
            line = gpu.measure(gpu.SHAPE, quantisation, torch.device("cuda:0"))
            sys.stdout.write(json.dumps({"workload": name, **line}) + "\n")


if __name__ == "__main__":
    main()
