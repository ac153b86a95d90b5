"""Work over memory that stays in place, captured once as a CUDA graph and replayed from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.memory import failed_for_good, out_of_memory

logger = logging.getLogger(__name__)

#: Reads its inputs, and writes where it always does: nothing else may decide what it computes.
Work = Callable[[Tensor], None]


def rung(rows: int) -> int:
    """The least number of rows that is captured and as large: a power of two, from 64 on a multiple of that."""
    return 1 << (rows - 1).bit_length() if rows < 64 else -(-rows // 64) * 64


class Graphs:
    """Graphs of one kind of work; what they compute with in passing is the same memory.

    Args:
        device: Where they are computed.
        launched: Why operations are started one by one instead; empty: graphs are replayed.
    """

    def __init__(self, device: torch.device, launched: str = "") -> None:
        self.device, self.launched = device, launched
        self._memory: Any = None

    def __str__(self) -> str:
        return f"launched: {self.launched}" if self.launched else "CUDA graphs"

    def captured(self, work: Work, inputs: Tensor) -> Any:
        """The work as a graph; None, and the reason noted, where it cannot be captured."""
        try:
            now: Any = torch.cuda.current_stream(self.device)
            aside: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            aside.wait_stream(now)
            with torch.cuda.stream(aside):
                for _ in range(2):  # whatever is compiled, or set up, the first time
                    work(inputs)
            now.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on with models of their own.
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                work(inputs)
        except Exception as error:
            if failed_for_good(error) or out_of_memory(error):
                raise
            self.launched = f"capturing fails with {type(error).__name__}: {' '.join(str(error).split())}"
            logger.warning("a GPU's operations are started one by one: %s", self.launched)
            return None
        self._memory = graph.pool()
        return graph


class Program:
    """Work that is captured the first time.

    Args:
        graphs: Where its graph belongs.
        work: What is done.
        empty: Inputs that mean nothing, int64: the graph is captured with them.
    """

    def __init__(self, graphs: Graphs, work: Work, empty: np.ndarray) -> None:
        self.empty = empty
        self._graphs, self._work = graphs, work
        self._inputs = torch.zeros(empty.shape, dtype=torch.int64, device=graphs.device)
        self._tell(empty)
        self._graph = None if graphs.launched else graphs.captured(work, self._inputs)

    def run(self, lines: np.ndarray) -> None:
        """Do the work with these inputs, of the shape of ``empty``."""
        self._tell(lines)
        if self._graph is None or self._graphs.launched:
            self._work(self._inputs)
        else:
            self._graph.replay()

    def _tell(self, lines: np.ndarray) -> None:
        """Copy inputs into place, which nobody waits for."""
        staged = torch.from_numpy(lines)
        self._inputs.copy_(staged if self._inputs.device.type == "cpu" else staged.pin_memory(), non_blocking=True)
