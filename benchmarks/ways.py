"""Ways of serving the same requests with a model of ours: the batch, ``generate``, transformers' continuous batching.

Run as a program, in a process of its own, it serves one workload in one way and prints what that took; see
``benchmarks.engine``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby, pairwise, takewhile
from operator import eq
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from benchmarks.measuring import WARM, Measured, measured
from benchmarks.workloads import as_json, from_json, interviews, kind
from defsurvey.workers.engines.base import Completion, Counters, Request
from defsurvey.workers.engines.transformers.core import plain
from defsurvey.workers.engines.transformers.core.answering import read_request
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import draws_for
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.memory import hold_on
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.loading import load_model
from defsurvey.workers.engines.transformers.opening import Opened, open_model
from defsurvey.workers.engines.transformers.opening import serve as serve_model
from defsurvey.workers.engines.transformers.weights import find_weights
from defsurvey.workers.models import ModelCard, find_card, read_cards

#: What a line repeats of the engine's counters.
_COUNTED = ("steps", "rows_per_step", "prefilled_tokens", "reused_tokens", "peak_kv_bytes")


class Nobody:
    """A delivery that only counts."""

    def __init__(self) -> None:
        self.tokens = 0

    def cancelled(self) -> bool:
        """Never."""
        return False

    def reply(self, tokens: list[int], _probabilities: Sequence[float]) -> None:
        """Count."""
        self.tokens += len(tokens)

    def fail(self, error: Exception) -> None:
        """A benchmark that fails measures nothing."""
        raise error


class Batch:
    """The batch of a model that is opened, for several workloads one after the other."""

    def __init__(self, opened: Opened) -> None:
        if opened.runner is None:
            raise RuntimeError(f"the batch does not serve the model: {opened.reason}")
        hold_on()
        runner, limits = opened.runner, opened.limits
        # Prompts of one request each are not asked again.
        self._decoder = Decoder(runner, replace(limits, keep=False), draws_for(runner.device, runner.dtype))

    def serve(self, requests: Sequence[ResolvedRequest]) -> int:
        """All requests at once; how many tokens replies have."""
        nobody = Nobody()
        for request in requests:
            self._decoder.add(request, nobody)
        while self._decoder.unfinished:
            self._decoder.step()
        return nobody.tokens

    def counters(self) -> Counters:
        """What has been done so far."""
        return self._decoder.counters()


def alone(loaded: LoadedModel, requests: Sequence[ResolvedRequest]) -> int:
    """``generate``, one request at a time."""
    return sum(len(plain.generate(loaded, request, lambda: False)) for request in requests)


def grouped(loaded: LoadedModel, requests: Sequence[ResolvedRequest]) -> int:
    """``generate`` on all requests of equal settings at once, shorter prompts filled up on the left."""

    def settings(request: ResolvedRequest) -> tuple[int, bool]:
        return request.num_beams, request.sampling is not None

    tokens = 0
    with torch.inference_mode():
        for _, group in groupby(sorted(requests, key=settings), key=settings):
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


def continuous(loaded: LoadedModel, requests: Sequence[ResolvedRequest]) -> int:
    """Transformers' continuous batching, all requests at once; one beam each, as it has no others.

    Greedy and sampled requests share a batch by their temperature, the one setting that it has for each request.
    """
    blocks = sum(-(-(len(one.prompt) + one.max_new_tokens) // 256) for one in requests)
    settings = ContinuousBatchingConfig(
        num_blocks=blocks + 1, max_batch_tokens=2048, per_request_processors=True, use_cuda_graph=False
    )
    greedy = GenerationConfig(do_sample=True, temperature=1e-4, top_k=0, top_p=1.0, eos_token_id=-1, pad_token_id=0)
    manager = loaded.model.init_continuous_batching(greedy, settings)
    manager.start()
    for one in requests:
        temperature = one.sampling.temperature if one.sampling else 1e-4
        manager.add_request(list(one.prompt), max_new_tokens=one.max_new_tokens, temperature=temperature)
    tokens = 0
    for _ in requests:
        while (result := manager.get_result(timeout=1)) is None and manager.is_running():
            pass
        if result is None or result.error:
            raise RuntimeError(f"transformers' continuous batching ended early: {result and result.error}")
        tokens += len(result.generated_tokens)
    manager.stop(block=True)
    return tokens


def weighed(loaded: LoadedModel, requests: Sequence[ResolvedRequest], weights: Sequence[float]) -> Measured:
    """``alone``, each request counted as so many as it stands for."""
    wall = cpu = tokens = 0.0

    def each() -> int:
        nonlocal wall, cpu, tokens
        for request, weight in zip(requests, weights, strict=True):
            began, worked = time.perf_counter(), time.process_time()
            tokens += weight * alone(loaded, [request])
            wall += weight * (time.perf_counter() - began)
            cpu += weight * (time.process_time() - worked)
        return 0

    peak = measured(each).peak_mb
    return Measured(seconds=wall, cpu_seconds=cpu, tokens=round(tokens), peak_mb=peak)


def conduct(card: ModelCard, task: dict[str, Any]) -> dict[str, Any]:
    """Interviews by the engine as a worker uses it; writes what it was asked to the file that the task names."""
    cache, threads = Path(task["cache"]), task["threads"]
    weights = find_weights(card, cache)
    opened = in_passing(partial(open_model, card, weights, device="cpu", cache=cache, threads=threads))
    engine = serve_model(card, opened, threads=threads)
    submit, made, came = engine.submit, interviews(**task["interviews"]), list[tuple[Request, Future[Completion]]]()

    def recorded(request: Request) -> Future[Completion]:
        came.append((request, submit(request)))
        return came[-1][1]

    def answered() -> int:
        made.conduct(engine)
        return sum(future.result().completion_tokens or 0 for _, future in came)

    engine.submit = recorded  # type: ignore[method-assign]
    took = asdict(measured(answered)) | _counted(engine.counters())
    questions = [read_request(card, opened.loaded, request) for request, _ in came]
    asked = [question.resolved for question in questions if not isinstance(question, Completion)]
    Path(task["asked"]).write_text(json.dumps([as_json(one) for one in asked]), encoding="utf-8")
    engine.close()
    took["shared"] = took["reused_tokens"] / (took["reused_tokens"] + took["prefilled_tokens"])
    return took | {"shareable": shareable([one.prompt for one in asked])}


def shareable(prompts: Sequence[Sequence[int]]) -> float:
    """The share of all tokens of prompts that need not be computed, if each beginning is computed only once."""
    ordered = sorted(prompts)
    begun = sum(sum(takewhile(bool, map(eq, one, other))) for one, other in pairwise(ordered))
    return begun / sum(len(one) for one in ordered)


def export(loaded: LoadedModel, folder: str) -> None:
    """The weights as other libraries read them; a model that was read from GGUF does not let itself be saved."""
    vars(loaded.model.config).pop("quantization_config", None)
    bare = AutoModelForCausalLM.from_config(loaded.model.config, dtype=loaded.model.dtype)
    bare.load_state_dict(loaded.model.state_dict())
    bare.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def warm_up(requests: Sequence[ResolvedRequest]) -> list[ResolvedRequest]:
    """A short request of every kind, on prompts that do not come again."""
    kinds = {kind(one): one for one in requests}
    return [replace(one, prompt=one.prompt[::-1], max_new_tokens=WARM) for one in kinds.values()]


def serve(way: str, task: dict[str, Any]) -> dict[str, Any]:
    """Load the model, warm up, serve; what it took, and what the engine counted."""
    card = find_card(task["model"], read_cards()).model_copy(update={"dtype": task["dtype"]})
    torch.set_num_threads(task["threads"])
    weights, cache = find_weights(card, Path(task["cache"])), Path(task["cache"])
    if "interviews" in task:
        return conduct(card, task)
    if way == "engine":
        open_it = partial(open_model, card, weights, device="cpu", cache=cache, threads=task["threads"])
        batch = Batch(in_passing(open_it))
        requests = [from_json(one) for one in task["requests"]]
        in_passing(partial(batch.serve, warm_up(requests)))
        return asdict(measured(partial(batch.serve, requests))) | _counted(batch.counters())
    loaded = in_passing(partial(load_model, card, weights, device="cpu"))
    if way == "export":
        in_passing(partial(export, loaded, task["folder"]))
        return {}
    requests = [from_json(one) for one in task["requests"]]
    if way == "alone":
        in_passing(partial(alone, loaded, warm_up(requests)[:1]))
        return asdict(weighed(loaded, requests, task["weights"]))
    serving = {"grouped": partial(grouped, loaded), "continuous": partial(continuous, loaded)}[way]
    in_passing(partial(serving, warm_up(requests)))
    return asdict(measured(partial(serving, requests)))


def _counted(last: Counters) -> dict[str, Any]:
    phases = {phase: round(seconds, 2) for phase, seconds in last.seconds.items()}
    return {name: round(getattr(last, name), 1) for name in _COUNTED} | {"phases": phases}


if __name__ == "__main__":
    print(json.dumps(serve(sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))))  # noqa: T201
