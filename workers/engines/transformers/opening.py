"""From a card to a running engine: which of the ways to compute a step serves the model."""

from __future__ import annotations

from pathlib import Path

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, adopt
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import draws_for
from defsurvey.workers.engines.transformers.core.engine import BACKLOG, TransformersEngine
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.loading import LoadedModel, load_model
from defsurvey.workers.engines.transformers.core.memory import OutOfRoom, hold_on, limits_for, participants_at_once
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.core.weights import find_weights
from defsurvey.workers.models import ModelCard


def open_transformers(card: ModelCard, *, device: str, cache: Path, threads: int | None) -> TransformersEngine:
    """Find, load and start a model; raises EngineUnavailable (see ``workers.engines.opening``)."""
    weights = find_weights(card, cache)
    loaded = in_passing(lambda: load_model(card, weights, device=device))
    try:
        return serve(card, loaded, threads=threads)
    except OutOfRoom as error:
        raise EngineUnavailable(f"model {card.name}: {device} has no room for keys and values: {error}") from error


def serve(
    card: ModelCard,
    loaded: LoadedModel,
    *,
    threads: int | None = None,
    limits: Limits | None = None,
    backlog: int = BACKLOG,
) -> TransformersEngine:
    """An engine for a model that is loaded.

    Args:
        card: The model's card.
        loaded: The model.
        threads: CPU threads; None leaves it to the library.
        limits: How much is done at once; None: what the device's memory suggests.
        backlog: How many requests may be unfinished before ``submit`` waits.

    Raises:
        OutOfRoom: The device has no memory for keys and values.
    """
    try:
        decoder, at_once = in_passing(lambda: prepare(loaded, limits))
    except UnsupportedModel as reason:
        told = f"one request at a time: {reason}"
        return TransformersEngine(card, loaded, None, batching=told, threads=threads, backlog=backlog)
    return TransformersEngine(card, loaded, decoder, at_once=at_once, threads=threads, backlog=backlog)


def prepare(loaded: LoadedModel, limits: Limits | None = None) -> tuple[Decoder, int]:
    """A batch for a model, and how many participants it has room for; raises UnsupportedModel and OutOfRoom."""
    layout = adopt(loaded.model)
    weights = loaded.model.get_memory_footprint()
    limits = limits or limits_for(layout.device, layout.bytes_per_token, weights)
    hold_on()
    runner = TorchRunner(loaded.model, layout, limits.kv_bytes)
    draws = draws_for(layout.device, layout.dtype)
    return Decoder(runner, limits, draws), participants_at_once(layout.bytes_per_token, limits)
