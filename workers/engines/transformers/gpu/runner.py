"""A step for GPUs: one program over memory that stays in place, captured once as a CUDA graph and then replayed.

A GPU reads a model of 7B in less time than a host takes to start the thousand operations of a step one by one. Replayed
they are started at once, but with the same shapes and from the same memory each time. So rows of one token are filled
up to one of few numbers of rows, tables of blocks to one of few lengths, and all that is said of them is copied into
place before. Where a graph cannot be captured, or computes something else, the same program is started operation by
operation. Pieces of prompts, whose shapes are all different, always are: their products are large.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, disagrees, packed_logits, vocabulary
from defsurvey.workers.engines.transformers.core.forward import Layout, TorchRunner
from defsurvey.workers.engines.transformers.core.memory import OutOfRoom, failed_for_good
from defsurvey.workers.engines.transformers.core.placing import place
from defsurvey.workers.engines.transformers.core.runner import Copy, Row
from defsurvey.workers.engines.transformers.core.selection import select as core_select
from defsurvey.workers.engines.transformers.gpu import attention
from defsurvey.workers.engines.transformers.gpu.attention import BLOCK, HEADER, Step, Tiles
from defsurvey.workers.engines.transformers.gpu.graphs import Graphs, Program, rung
from defsurvey.workers.engines.transformers.gpu.joining import join, undo
from defsurvey.workers.engines.transformers.gpu.selection import Selector, misjudges

logger = logging.getLogger(__name__)

#: Rows of one token that are computed together, and of logits that are kept in place, at most.
ROWS = 1024
#: Blocks of the shortest table; each next one is so many times as long.
_SHORTEST, _LONGER = 16, 4
#: What is said of a row before its line of ``Tiles``: its token, and where its key and value go.
_ROW = 2
#: Tokens for which there is room while a model is tried.
_TRIED = 512
#: Bytes that are copied at once where beams part.
_COPIED = 1 << 28


class GpuRunner:
    """Computes steps with a model that ``adoption.adopt`` has found fit. See ``Runner``.

    Args:
        model: The model.
        layout: What it keeps for one token.
        kv_bytes: How much room its blocks may take.
        kernel: Whether Triton's kernel attends.
        graphs: Makes what captures and replays, of steps and of choices.

    Raises:
        OutOfRoom: The device cannot hold them.
    """

    block_size = BLOCK

    def __init__(
        self, model: Any, layout: Layout, kv_bytes: int, *, kernel: bool, graphs: Callable[[], Graphs]
    ) -> None:
        self.block_bytes = BLOCK * layout.bytes_per_token
        self.blocks = max(1, kv_bytes // self.block_bytes - 1)
        self.device, self.dtype = layout.device, layout.dtype
        self._model, self._kernel = model, kernel
        self.graphs = graphs()
        self._programs: dict[tuple[int, int], Program] = {}
        self._per_head = model.config.get_text_config().num_attention_heads // layout.layers[0].heads
        attention.register()
        model.set_attn_implementation(attention.NAME)
        # One block after the other, in each all layers, so that a block is copied as one piece.
        sizes = [2 * BLOCK * of.heads * of.width for of in layout.layers]
        try:
            # The last block takes the keys and values of rows that nobody wants.
            self.pool = torch.zeros(self.blocks + 1, sum(sizes), dtype=layout.dtype, device=layout.device)
        except (RuntimeError, MemoryError) as error:  # allocating fails for no other reason
            raise OutOfRoom(" ".join(str(error).split())) from error
        self._layers = [
            held.view(-1, BLOCK, 2, of.heads, of.width)
            for held, of in zip(torch.split(self.pool, sizes, dim=1), layout.layers, strict=True)
        ]
        # The library would build a mask of T x T; a ready-made one of four dimensions is left as it is.
        self._no_mask = torch.empty((1, 1, 1, 1), device=layout.device)
        with torch.inference_mode():
            inputs = torch.from_numpy(self._empty(1, 1)).to(layout.device)
            logits = self._all(inputs)
        self._logits = torch.zeros(ROWS, logits.shape[-1], dtype=logits.dtype, device=layout.device)
        self.selector = Selector(self._logits, graphs())
        self.select: Any = self.selector.select

    @property
    def name(self) -> str:
        """What computes, and how operations are started."""
        ways = "Triton" if self._kernel else "gathered keys", f"steps {self.graphs}", f"choices {self.selector.graphs}"
        return f"torch {torch.__version__} ({', '.join(ways)})"

    def run(self, rows: Sequence[Row]) -> Tensor:
        """See ``Runner``."""
        single, pieces = self._parted(rows)
        # First, since a row of one token may see what a piece writes.
        behind = self._launched([rows[n] for n in pieces]) if pieces else None
        if single:
            self._replayed([rows[n] for n in single])
        numbers = [*single, *(n for n in pieces if rows[n].logits)]
        wanted = [at for at in np.argsort(numbers).tolist() if rows[numbers[at]].logits]
        if behind is None and len(wanted) == len(rows):
            return self._logits[: len(rows)]
        found = self._logits[: len(single)] if behind is None else torch.cat((self._logits[: len(single)], behind))
        return found.index_select(0, *place([np.array(wanted, dtype=np.int64)], self.device))

    def copy(self, copies: Sequence[Copy]) -> None:
        """See ``Runner``."""
        if not copies:
            return
        pairs = np.array([(copy.source, copy.target) for copy in copies])
        sources, targets = place([pairs[:, 0], pairs[:, 1]], self.device)
        step = max(1, _COPIED // self.block_bytes)
        for source, target in zip(torch.split(sources, step), torch.split(targets, step), strict=True):
            self.pool.index_copy_(0, target, self.pool.index_select(0, source))

    def close(self) -> None:
        """See ``Runner``."""
        del self._model, self._programs, self._layers, self.pool, self._logits, self.select, self.selector

    def judge(self) -> None:
        """Leave choices to core where they would be others, or fail."""
        if why := _failing(lambda: misjudges(self.selector, self._logits)):
            logger.warning("core chooses tokens: %s", why)
            self.selector.graphs.launched = f"by core, {why}"
            self.select = core_select

    def program(self, inputs: Tensor) -> None:
        """Compute rows of one token: what is captured. Logits are written to where they always are.

        Args:
            inputs: For each row its token, its place in the pool (block * BLOCK + place in it), and a line of
                ``Tiles``; int64, shape (rows, 2 + HEADER + blocks).
        """
        self._logits[: len(inputs)].copy_(self._all(inputs))

    def _all(self, inputs: Tensor) -> Tensor:
        lines = inputs[:, _ROW:]
        return self._forward(inputs[:, 0], inputs[:, 1], lines[:, 2], Tiles(lines, 1), 0)

    def _forward(self, ids: Tensor, slots: Tensor, positions: Tensor, tiles: Tiles, kept: Tensor | int) -> Tensor:
        """Logits behind those tokens that are kept, of all where it is 0."""
        step = Step(self._layers, slots // BLOCK, slots % BLOCK, tiles, self._kernel)
        with torch.inference_mode():
            output = self._model(
                input_ids=ids[None],
                position_ids=positions[None],
                attention_mask=self._no_mask,
                use_cache=False,
                logits_to_keep=kept,
                blocks=step,
            )
        logits: Tensor = output.logits[0]
        return logits

    def _parted(self, rows: Sequence[Row]) -> tuple[Sequence[int], Sequence[int]]:
        """Which rows are computed by the program, and which are launched before.

        What a launched row sees is written by then: of a row of one token that writes into a block in its table, too.
        A table has what its blocks build on, so that nobody else has to come before that one.
        """
        pieces = [n for n, row in enumerate(rows) if len(row.tokens) > 1]
        if not pieces and len(rows) <= ROWS:
            return range(len(rows)), pieces
        single = [n for n, row in enumerate(rows) if len(row.tokens) == 1]
        pieces, single = pieces + single[ROWS:], single[:ROWS]
        seen = np.concatenate([rows[n].table for n in pieces])
        written = np.isin([rows[n].table[rows[n].past // BLOCK] for n in single], seen)
        early = {n for n, before in zip(single, written, strict=True) if before}
        return [n for n in single if n not in early], sorted({*pieces, *early})

    def _launched(self, rows: Sequence[Row]) -> Tensor:
        """Logits of pieces of prompts."""
        tokens = np.concatenate([np.asarray(row.tokens, dtype=np.int64) for row in rows])
        spans = [np.arange(row.past, row.past + len(row.tokens)) for row in rows]
        blocks = np.concatenate([row.table[at // BLOCK] for row, at in zip(rows, spans, strict=True)])
        positions = np.concatenate(spans)
        slots = blocks.astype(np.int64) * BLOCK + positions % BLOCK
        starts = np.cumsum([0, *(len(row.tokens) for row in rows)])
        most = attention.tile_tokens(self._per_head)
        lines = [
            (start + at, min(most, len(row.tokens) - at), row.past + at, 0, 0, row.table)
            for row, start in zip(rows, starts[:-1], strict=True)
            for at in range(0, len(row.tokens), most)
        ]
        tiles = np.full((len(lines), HEADER + max(len(row.table) for row in rows)), self.blocks)
        for line, (*header, table) in zip(tiles, lines, strict=True):
            line[:HEADER], line[HEADER : HEADER + len(table)] = header, table
        wanted = starts[1:][[row.logits for row in rows]] - 1
        ids, there, places, laid, last = place([tokens, slots, positions, tiles, wanted], self.device)
        return self._forward(ids, there, places, Tiles(laid, most), last if len(wanted) else 1)[: len(wanted)]

    def _replayed(self, rows: Sequence[Row]) -> None:
        """Write logits of rows of one token to where they always are."""
        count = len(rows)
        lengths = np.array([len(row.table) for row in rows])
        program = self._program(count, int(lengths.max()))
        inputs = program.empty.copy()
        past = np.array([row.past for row in rows])
        lines = inputs[:count, _ROW:]
        tables = lines[:, HEADER:]
        tables[np.arange(tables.shape[1]) < lengths[:, None]] = np.concatenate([row.table for row in rows])
        inputs[:count, 0] = [row.tokens[0] for row in rows]
        inputs[:count, 1] = tables[np.arange(count), past // BLOCK] * BLOCK + past % BLOCK
        lines[:, 2] = past
        lines[:, 3:HEADER] = together(tables, past // BLOCK, attention.tile_beams(self._per_head))
        program.run(inputs)

    def _program(self, rows: int, blocks: int) -> Program:
        """The smallest program that has room for so many rows and blocks."""
        length = _SHORTEST
        while length < blocks:
            length *= _LONGER
        shape = rung(rows), length
        if shape not in self._programs:
            self._programs[shape] = Program(self.graphs, self.program, self._empty(*shape))
        return self._programs[shape]

    def _empty(self, rows: int, blocks: int) -> np.ndarray:
        """Rows that see themselves alone, in the block that is nobody's."""
        empty = np.full((rows, _ROW + HEADER + blocks), self.blocks)
        empty[:, : _ROW + HEADER] = 0, self.blocks * BLOCK, 0, 1, 0, 1, 0
        empty[:, _ROW] = np.arange(rows)
        return empty


def together(tables: np.ndarray, whole: np.ndarray, most: int) -> np.ndarray:
    """Consecutive rows that are in the same blocks for more than half their length, such as beams.

    Args:
        tables: Of each row, shape (rows, blocks).
        whole: How many blocks each has filled.
        most: How many rows may be taken together.

    Returns:
        For each row how many are taken together with it, 0 where one before is, and how many tokens of these are in the
        same blocks; shape (rows, 2).
    """
    differ = tables[1:] != tables[:-1]
    alike = np.where(differ.any(axis=1), differ.argmax(axis=1), tables.shape[1])
    alike = np.minimum(alike, np.minimum(whole[1:], whole[:-1])).tolist()
    taken, shared = [0] * len(tables), [0] * len(tables)
    first = 0
    for row, (same, blocks) in enumerate(zip([0, *alike], whole.tolist(), strict=True)):
        if row == 0 or 2 * same <= blocks or row - first == most:
            first, shared[row] = row, blocks
        elif same < shared[first]:
            shared[first] = same
        taken[first] += 1
    return np.array([taken, np.multiply(shared, BLOCK)]).T


def open_runner(model: Any, layout: Layout, kv_bytes: int) -> GpuRunner:
    """A runner that computes what ``TorchRunner`` does; whatever differs is dropped, and its name says what is used.

    Raises:
        UnsupportedModel: it computes something else in every way.
        OutOfRoom: the device cannot hold its blocks.
    """
    room = _TRIED * layout.bytes_per_token
    expected = packed_logits(TorchRunner(model, layout, room), vocabulary(model))

    def wrong(runner: Any) -> str:
        return disagrees(runner, expected)

    def made(kernel: bool, kv_bytes: int, launched: str) -> GpuRunner:
        return GpuRunner(model, layout, kv_bytes, kernel=kernel, graphs=partial(Graphs, layout.device, launched))

    replaced = join(model)
    if wrong(TorchRunner(model, layout, room)):
        undo(replaced)
    if unusable := _failing(lambda: wrong(made(True, room, "tried"))):
        logger.warning("keys and values are gathered, the kernel cannot be used: %s", unusable)
        if why := _failing(lambda: wrong(made(False, room, "tried"))):
            raise UnsupportedModel(why)
    runner = made(not unusable, kv_bytes, "" if layout.device.type == "cuda" else "there is no CUDA device")
    for _ in range(2):  # the second time what was captured the first time is replayed
        runner.graphs.launched = runner.graphs.launched or _failing(lambda: wrong(runner))
    runner.judge()
    return runner


def _failing(tried: Callable[[], str]) -> str:
    """What a trial says is wrong, or how it fails."""
    try:
        return tried()
    except Exception as error:  # whatever an unforeseen card, model or compiler makes of it
        if failed_for_good(error) or isinstance(error, OutOfRoom):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
