"""Computes steps with OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines import machine
from defsurvey.workers.engines.transformers.core.runner import Copy, Row
from defsurvey.workers.engines.transformers.cpu.graph import keep_apart, paged
from defsurvey.workers.engines.transformers.cpu.library import ov, release

#: Types in which a graph can be compiled, and what they are called there.
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
#: How keys and values are seen from torch: it copies bits.
_BITS = {"f32": torch.int32, "bf16": torch.int16}


class OpenVINORunner:
    """A compiled graph and its blocks; see ``core.runner.Runner``."""

    def __init__(self, graph: Any, *, dtype: str, kv_bytes: int, threads: int | None = None) -> None:
        """Compile a graph.

        Args:
            graph: From ``converted``, better as ``store.kept`` has it; it is changed.
            dtype: ``float32`` or ``bfloat16``.
            kv_bytes: The most that blocks of keys and values take; memory is taken as blocks are first filled.
            threads: How many threads compute; None for as many as there are processors.

        Raises:
            ValueError: the type is another.
            UnsupportedGraph: a layer attends in a way that has no counterpart over blocks.
        """
        if dtype not in _PRECISIONS:
            raise ValueError(f"OpenVINO computes in {' or '.join(_PRECISIONS)} on a CPU, not in {dtype}")
        precision = _PRECISIONS[dtype]
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        graph = paged(graph)
        if 1 in (threads, machine.cores()):
            keep_apart(graph)
        self.name = f"OpenVINO {release()}"
        self.device, self.dtype = torch.device("cpu"), getattr(torch, dtype)
        self._compiled: Any = ov.Core().compile_model(graph, "CPU", settings)
        self._request: Any = self._compiled.create_infer_request()
        self._inputs = {port.get_any_name() for port in self._compiled.inputs}
        caches = [port for port in self._compiled.inputs if "_cache." in port.get_any_name()]
        self.block_size = _shape(caches[0])[1]
        self.block_bytes = sum(prod(_shape(port)) * port.element_type.size for port in caches)
        self.blocks = max(0, kv_bytes // self.block_bytes - 1)  # one more is the filler's
        self._filler = Row([0], 0, np.array([self.blocks], np.int32), False)
        #: Keys and values, a piece for all layers alike: shape (tensors, blocks, heads, tokens, width).
        self.pools: list[Tensor] = []
        self._lay_out(caches)

    def run(self, rows: Sequence[Row]) -> Tensor:
        """See ``core.runner.Runner``."""
        if len(rows) == 1 and len(rows[0].tokens) == 1:
            # A single token is multiplied by other means, whose sums are rounded differently: none is ever alone.
            rows = [*rows, self._filler]
        lengths = np.array([len(row.tokens) for row in rows], np.int32)
        past = np.array([row.past for row in rows], np.int32)
        begins = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(lengths, out=begins[1:])
        tokens = np.fromiter(chain.from_iterable(row.tokens for row in rows), np.int64, int(begins[-1]))
        places = np.arange(begins[-1]) + np.repeat(past - begins[:-1], lengths)
        ends = [int(end) - 1 for row, end in zip(rows, begins[1:], strict=True) if row.logits]
        given = {
            "input_ids": tokens,
            "position_ids": places.astype(np.int64),
            "past_lens": past,
            "subsequence_begins": begins,
            "block_indices": np.concatenate([row.table for row in rows]).astype(np.int32, copy=False),
            "block_indices_begins": np.array([0, *accumulate(len(row.table) for row in rows)], np.int32),
            "max_context_len": np.array((past + lengths).max(), np.int32),
            "sampled": np.array(ends, np.int64),
        }
        for name in self._inputs & given.keys():
            self._request.set_tensor(name, ov.Tensor(given[name]))
        self._request.infer()
        return torch.from_numpy(self._request.get_output_tensor(0).data).flatten(0, -2)

    def copy(self, copies: Sequence[Copy]) -> None:
        """See ``core.runner.Runner``."""
        for source, target, tokens in copies:
            for pool in self.pools:
                pool[:, target, :, :tokens].copy_(pool[:, source, :, :tokens])

    def close(self) -> None:
        """See ``core.runner.Runner``."""
        self.pools = []
        self._request = self._compiled = None

    def _lay_out(self, caches: Sequence[Any]) -> None:
        """Set up the blocks: all layers whose blocks are alike lie in one piece of memory, so that one call copies."""
        alike: dict[tuple[str, tuple[int, ...]], list[Any]] = {}
        for port in caches:
            alike.setdefault((port.element_type.get_type_name(), _shape(port)), []).append(port)
        for (kind, shape), ports in alike.items():
            pool = torch.empty(
                len(ports), self.blocks + 1, *shape, dtype=_BITS[kind]
            )  # the system gives it page by page
            self.pools.append(pool)
            for port, part in zip(ports, pool, strict=True):
                tensor = ov.Tensor(part.numpy(), ov.Shape([self.blocks + 1, *shape]), port.element_type)
                self._request.set_tensor(port.get_any_name(), tensor)


def _shape(port: Any) -> tuple[int, ...]:
    """Of a block of keys, or of values: heads, tokens, width."""
    return tuple(side.get_length() for side in list(port.partial_shape)[1:])
