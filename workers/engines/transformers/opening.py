"""From a card to a running engine: which of the ways to compute a step serves the model."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, adopt
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import draws_for
from defsurvey.workers.engines.transformers.core.engine import BACKLOG, TransformersEngine
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.memory import (
    OutOfRoom,
    give_back,
    hold_on,
    limits_for,
    participants_at_once,
)
from defsurvey.workers.engines.transformers.core.runner import Runner
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.loading import fastest_type, load_model
from defsurvey.workers.engines.transformers.quantising import check_quantisation
from defsurvey.workers.engines.transformers.weights import Weights, find_weights
from defsurvey.workers.models import ModelCard

log = logging.getLogger(__name__)

#: Where accelerators are; the engine works without them.
_HERE = __name__.rpartition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model that is ready to be served."""

    loaded: LoadedModel
    runner: Runner | None  #: computes its steps; None: the batch cannot serve it, and the library generates its replies
    limits: Limits  #: how much is done at once
    reason: str = ""  #: why there is no runner, or why it is plain torch; empty where nothing is faster


def open_transformers(card: ModelCard, *, device: str, cache: Path, threads: int | None) -> TransformersEngine:
    """Find, load and start a model; raises EngineUnavailable (see ``workers.engines.opening``)."""
    weights = find_weights(card, cache)
    try:
        opened = in_passing(lambda: open_model(card, weights, device=device, cache=cache, threads=threads))
    except OutOfRoom as error:
        raise EngineUnavailable(f"model {card.name}: {device} has no room for keys and values: {error}") from error
    return serve(card, opened, threads=threads)


def open_model(card: ModelCard, weights: Weights, *, device: str, cache: Path, threads: int | None) -> Opened:
    """Choose what computes the steps of a model, by trying.

    Args:
        card: The model's card.
        weights: Its weights on disk.
        device: Where it is computed.
        cache: Where graphs of OpenVINO's are kept.
        threads: CPU threads; None leaves it to the library.

    Raises:
        EngineUnavailable: The weights cannot be read, do not fit, or the device is not there.
        OutOfRoom: The device has no memory for keys and values.
    """
    if device != "cpu":
        return in_memory(load_model(card, weights, device=device))
    check_quantisation(card, weights.folder, device)
    held = card.quantisation in ("nf4", "gptq")  # by modules of their own
    cpu = None if held else _accelerator("cpu.serving")
    card = card.model_copy(update={"dtype": _dtype(card, cpu)})
    made: list[LoadedModel] = []

    def load() -> LoadedModel:
        made.append(load_model(card, weights, device=device))
        return made[0]

    reason = f"weights in {card.quantisation} are torch's own" if held else "OpenVINO is not installed"
    if cpu is not None:
        try:
            loaded, runner, limits = cpu.open_runner(card, weights, cache=cache, threads=threads, load=load)
            for each in made:
                _empty(each.model)
            made.clear()
            gc.collect()
            give_back()
            return Opened(loaded=loaded, runner=runner, limits=limits)
        except (UnsupportedModel, cpu.UnsupportedGraph) as error:
            reason = f"OpenVINO does not compute it: {error}"
            log.info("model %s: %s", card.name, reason)
    if card.quantisation in ("int8", "int4"):
        raise EngineUnavailable(f"model {card.name}: field quantisation: {card.quantisation}: {reason}")
    return in_memory(made[0] if made else load(), reason=reason)


def _empty(model: Any) -> None:
    """Free the memory of weights: torch keeps a traced graph for good, and that refers to the model's modules."""
    for each in (*model.parameters(), *model.buffers()):
        each.data = each.data.new_empty(0)


def in_memory(loaded: LoadedModel, *, limits: Limits | None = None, reason: str = "") -> Opened:
    """A model that torch holds, on whatever device; raises OutOfRoom.

    Args:
        loaded: The model.
        limits: How much is done at once; None: what the device's memory suggests.
        reason: Why nothing faster computes its steps.
    """
    try:
        layout = adopt(loaded.model)
    except UnsupportedModel as unfit:
        return Opened(loaded=loaded, runner=None, limits=limits or Limits(), reason=str(unfit))
    footprint = loaded.model.get_memory_footprint()
    limits = limits or limits_for(layout.device, layout.bytes_per_token, footprint)
    gpu = _accelerator("gpu.runner") if layout.device.type == "cuda" else None
    if gpu is not None:
        try:
            runner = gpu.open_runner(loaded.model, layout, limits.kv_bytes)
            return Opened(loaded=loaded, runner=runner, limits=limits)
        except UnsupportedModel as error:
            reason = f"as one program it computes something else: {error}"
    runner = TorchRunner(loaded.model, layout, limits.kv_bytes)
    return Opened(loaded=loaded, runner=runner, limits=limits, reason=reason)


def serve(card: ModelCard, opened: Opened, *, threads: int | None = None, backlog: int = BACKLOG) -> TransformersEngine:
    """An engine for a model.

    Args:
        card: The model's card.
        opened: The model.
        threads: CPU threads; None leaves it to the library.
        backlog: How many requests may be unfinished before ``submit`` waits.
    """
    runner, limits = opened.runner, opened.limits
    if runner is None:
        batching = f"one request at a time: {opened.reason}"
        return TransformersEngine(card, opened.loaded, None, batching=batching, threads=threads, backlog=backlog)
    hold_on()
    return TransformersEngine(
        card,
        opened.loaded,
        Decoder(runner, limits, draws_for(runner.device, runner.dtype)),
        at_once=participants_at_once(runner.block_bytes // runner.block_size, limits),
        computed_by=": ".join(filter(None, (runner.name, opened.reason))),
        threads=threads,
        backlog=backlog,
    )


def _accelerator(module: str) -> Any:
    """A module of an accelerator's folder; None where the folder, or the package that it needs, is not there."""
    try:
        return import_module(f"{_HERE}.{module}")
    except ModuleNotFoundError:
        return None


def _dtype(card: ModelCard, cpu: Any) -> str:
    """The type in which a CPU computes: the card's, or the fastest."""
    if card.dtype != "auto" or card.quantisation in ("nf4", "gptq"):
        return card.dtype
    return str(cpu.fastest_type()) if cpu is not None else fastest_type()
