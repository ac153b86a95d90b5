"""From a model's weights to a runner of OpenVINO's, by the graph that an earlier start has kept where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.adoption import adopt, disagrees, packed_logits, vocabulary
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.memory import limits_for
from defsurvey.workers.engines.transformers.core.runner import Runner
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.cpu.graph import UnsupportedGraph, compress, converted
from defsurvey.workers.engines.transformers.cpu.processor import fastest_type as fastest_type
from defsurvey.workers.engines.transformers.cpu.runner import OpenVINORunner
from defsurvey.workers.engines.transformers.cpu.store import Kept, kept, let_go
from defsurvey.workers.engines.transformers.loading import recalled
from defsurvey.workers.engines.transformers.weights import Weights
from defsurvey.workers.models import ModelCard

#: Room for keys and values while a model is tried.
_TRIED_BYTES = 64 << 20


def open_runner(
    card: ModelCard, weights: Weights, *, cache: Path, threads: int | None, load: Callable[[], LoadedModel]
) -> tuple[LoadedModel, Runner, Limits]:
    """Compile a model's graph, which is made first where it is not in the cache.

    Args:
        card: The model's card; its dtype is the one in which the graph computes.
        weights: Its weights on disk.
        cache: Where graphs are kept.
        threads: How many threads compute; None: as many as there are processors.
        load: Reads the model into memory; called only where there is no graph.

    Returns:
        The model, its weights no longer in torch's memory; what computes its steps; how much is done at once.

    Raises:
        UnsupportedModel: the batch cannot serve the model at all.
        UnsupportedGraph: OpenVINO does not convert it, or computes something else.
        OutOfRoom: there is no memory for keys and values.
    """

    quantised = [card.quantisation] if card.quantisation != "none" else []

    def make() -> Kept:
        loaded = load()
        model = loaded.model
        layout = adopt(model)
        expected = packed_logits(TorchRunner(model, layout, _TRIED_BYTES), vocabulary(model))
        model.set_attn_implementation("sdpa")
        sizes = {"bytes_per_token": layout.bytes_per_token, "footprint": model.get_memory_footprint()}
        graph = converted(model)
        if card.quantisation == "int8" or card.quantisation == "int4":
            full = OpenVINORunner(graph.clone(), dtype=card.dtype, kv_bytes=_TRIED_BYTES, threads=threads)
            _check(full, expected)
            graph = compress(graph, card.quantisation)
        return Kept(graph=graph, facts={"model": loaded.facts(), **sizes}, arrays={"expected": expected.numpy()})

    found = kept(cache / "openvino", card.name, "-".join([card.dtype, *quantised]), identity(weights), make)
    loaded = recalled(card, weights, found.facts["model"])
    limits = limits_for(torch.device("cpu"), found.facts["bytes_per_token"], found.facts["footprint"])
    runner = OpenVINORunner(found.graph, dtype=card.dtype, kv_bytes=limits.kv_bytes, threads=threads)
    if not quantised:  # then the graph was checked before its weights were
        _check(runner, torch.from_numpy(found.arrays["expected"]))
    if found.place:
        let_go(found.place)  # now that a step was computed, for which weights are laid out anew
    return loaded, runner, limits


def _check(runner: Runner, expected: Tensor) -> None:
    if reason := disagrees(runner, expected):
        raise UnsupportedGraph(reason)


def identity(weights: Weights) -> dict[str, str]:
    """What tells weights from others: their hash or commit where it is known, else files' names, sizes and times."""
    if "weights_sha256" in weights.origin or "revision" in weights.origin:
        return dict(weights.origin)
    files = sorted(file for file in weights.folder.iterdir() if file.is_file())
    return {str(file): f"{file.stat().st_size} {file.stat().st_mtime_ns}" for file in files}
