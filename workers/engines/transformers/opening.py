"""From a card to a running engine: which of the ways to compute a step serves the model."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, adopt
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import draws_for
from defsurvey.workers.engines.transformers.core.engine import BACKLOG, TransformersEngine
from defsurvey.workers.engines.transformers.core.forward import Layout, TorchRunner
from defsurvey.workers.engines.transformers.core.loading import LoadedModel, fastest_type, load_model
from defsurvey.workers.engines.transformers.core.memory import OutOfRoom, hold_on, limits_for, participants_at_once
from defsurvey.workers.engines.transformers.core.runner import Runner
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.weights import Weights, find_weights
from defsurvey.workers.models import ModelCard

log = logging.getLogger(__name__)

#: Where accelerators are; the engine works without them.
_HERE = __name__.rpartition(".")[0]


def open_transformers(card: ModelCard, *, device: str, cache: Path, threads: int | None) -> TransformersEngine:
    """Find, load and start a model; raises EngineUnavailable (see ``workers.engines.opening``)."""
    weights = find_weights(card, cache)
    try:
        return in_passing(lambda: _open(card, weights, device=device, cache=cache, threads=threads))
    except OutOfRoom as error:
        raise EngineUnavailable(f"model {card.name}: {device} has no room for keys and values: {error}") from error


def serve(
    card: ModelCard,
    loaded: LoadedModel,
    *,
    threads: int | None = None,
    limits: Limits | None = None,
    backlog: int = BACKLOG,
    reason: str = "",
) -> TransformersEngine:
    """An engine for a model that is in memory and whose steps torch computes.

    Args:
        card: The model's card.
        loaded: The model.
        threads: CPU threads; None leaves it to the library.
        limits: How much is done at once; None: what the device's memory suggests.
        backlog: How many requests may be unfinished before ``submit`` waits.
        reason: Why nothing faster computes them; empty where there is nothing faster.

    Raises:
        OutOfRoom: The device has no memory for keys and values.
    """
    try:
        layout = in_passing(lambda: adopt(loaded.model))
    except UnsupportedModel as unfit:
        batching = f"one request at a time: {unfit}"
        return TransformersEngine(card, loaded, None, batching=batching, threads=threads, backlog=backlog)
    footprint = loaded.model.get_memory_footprint()
    limits = limits or limits_for(layout.device, layout.bytes_per_token, footprint)
    runner, reason = _runner(loaded.model, layout, limits, reason)
    return _started(card, loaded, runner, limits, reason=reason, threads=threads, backlog=backlog)


def _open(card: ModelCard, weights: Weights, *, device: str, cache: Path, threads: int | None) -> TransformersEngine:
    cpu = _accelerator("cpu.serving") if device == "cpu" else None
    chosen = card.model_copy(update={"dtype": _dtype(card, cpu)}) if device == "cpu" else card
    in_memory: list[LoadedModel] = []

    def load() -> LoadedModel:
        in_memory.append(load_model(chosen, weights, device=device))
        return in_memory[0]

    reason = ""
    if device == "cpu":
        reason = "OpenVINO is not installed"
    if cpu is not None:
        try:
            loaded, runner, limits = cpu.open_runner(chosen, weights, cache=cache, threads=threads, load=load)
            return _started(card, loaded, runner, limits, threads=threads)
        except (UnsupportedModel, cpu.UnsupportedGraph) as error:
            reason = f"OpenVINO does not: {error}"
            log.info("model %s: steps are computed by torch; %s", card.name, reason)
    return serve(card, in_memory[0] if in_memory else load(), threads=threads, reason=reason)


def _started(
    card: ModelCard,
    loaded: LoadedModel,
    runner: Runner,
    limits: Limits,
    *,
    threads: int | None,
    reason: str = "",
    backlog: int = BACKLOG,
) -> TransformersEngine:
    hold_on()
    return TransformersEngine(
        card,
        loaded,
        Decoder(runner, limits, draws_for(runner.device, runner.dtype)),
        at_once=participants_at_once(runner.block_bytes // runner.block_size, limits),
        computed_by=f"{runner.name}: {reason}" if reason else runner.name,
        threads=threads,
        backlog=backlog,
    )


def _runner(model: Any, layout: Layout, limits: Limits, reason: str) -> tuple[Runner, str]:
    """What computes the steps of a model in memory, and why nothing faster does."""
    gpu = _accelerator("gpu.runner") if layout.device.type == "cuda" else None
    if gpu is not None:
        try:
            return in_passing(lambda: gpu.open_runner(model, layout, limits.kv_bytes)), reason
        except UnsupportedModel as error:
            reason = f"as one program it computes something else: {error}"
    return TorchRunner(model, layout, limits.kv_bytes), reason


def _accelerator(module: str) -> Any:
    """A module of an accelerator's folder; None where the folder, or the package that it needs, is not there."""
    try:
        return import_module(f"{_HERE}.{module}")
    except ModuleNotFoundError:
        return None


def _dtype(card: ModelCard, cpu: Any) -> str:
    """The type in which a CPU computes: the card's, or the fastest."""
    if card.dtype != "auto" or card.quantisation != "none":
        return card.dtype
    return str(cpu.fastest_type()) if cpu is not None else fastest_type()
