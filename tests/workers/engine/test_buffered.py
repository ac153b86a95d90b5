"""Attention over buffers against attention written out for each row, in float64."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from defsurvey.workers.engines.transformers.core.batch import Packed, Piece
from defsurvey.workers.engines.transformers.core.kv import LayerShape, Layout
from defsurvey.workers.engines.transformers.cpu import loops, matrix, product, tiles
from defsurvey.workers.engines.transformers.cpu.buffered import attend_buffered
from defsurvey.workers.engines.transformers.cpu.buffers import BufferKV, Buffers
from defsurvey.workers.engines.transformers.cpu.product import can

#: Of sums in float32 of products of numbers of that format, relative to the numbers' size.
TOLERANCE = 3e-6
#: And of rounding what comes of them to a format, likewise relative.
ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2**-8, torch.float16: 2**-11}
#: For prompts the weights of values are rounded as well, each on its own.
WEIGHTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    width: int
    key_heads: int
    per_group: int
    dtype: torch.dtype = torch.float32


class Dense:
    """Requests with everything they have ever stored, which attends row by row."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.rng = random.Random(seed)
        self.numbers = torch.Generator().manual_seed(seed)
        layout = Layout(
            layers=(LayerShape(shape.key_heads, shape.width),), dtype=shape.dtype, device=torch.device("cpu")
        )
        self.store = Buffers(layout)
        self.kvs: list[BufferKV] = []
        self.histories: list[list[tuple[int, Tensor, Tensor]]] = []  # place, key, value of each token of a request
        self.positions: list[int] = []

    def random(self, *sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=self.numbers).to(self.shape.dtype)

    def pieces(self, count: int) -> list[Piece]:
        """Prompts in chunks, and beams behind those that are through."""
        made = []
        while len(self.kvs) < count:
            self.kvs.append(self.store.open(self.rng.choice([1, 100])))
            self.positions.append(0)
        for number, kv in enumerate(self.kvs):
            position = self.positions[number]
            if position < 30 * number:
                length = self.rng.choice([1, 7, 70])
                made.append(Piece(kv, [0] * length, kv.extend(length), position, tree=False, logits=True))
                self.positions[number] += length
            else:
                beams = self.rng.choice([1, 2, 5])
                parents = [self.rng.randrange(len(kv.ancestors)) for _ in range(beams)]
                at = kv.branch(parents) if position else kv.extend(1)
                made.append(Piece(kv, [0] * (beams if position else 1), at, position, tree=bool(position), logits=True))
                self.positions[number] += 1
        return made

    def attend(
        self, pieces: list[Piece], query: Tensor, scaling: float, window: int | None
    ) -> Iterator[tuple[int, bool, Tensor]]:
        """For each row of queries whether it is of a tree and what it comes to, of what is in the buffers now.

        The latter has shape (heads, width).
        """
        row = 0
        for piece in pieces:
            kv = piece.kv
            assert isinstance(kv, BufferKV)
            keys, values = kv.buffers[0].double()
            for own in range(len(piece.tokens)):
                if piece.tree:
                    places = [*range(kv.root), *(kv.root + i for i, on in enumerate(kv.ancestors[own]) if on)]
                    position = piece.first
                else:
                    places, position = list(range(piece.at + own + 1)), piece.first + own
                if window is not None:
                    places = [place for place in places if kv.positions[place] > position - window]
                own_query = query[:, row].double().unflatten(0, (self.shape.key_heads, self.shape.per_group))
                weights = (own_query @ keys[:, places].transpose(1, 2) * scaling).softmax(-1)
                yield row, piece.tree, (weights @ values[:, places]).flatten(0, 1)
                row += 1


def _packed(store: Buffers, pieces: list[Piece]) -> Packed:
    starts = [sum(len(piece.tokens) for piece in pieces[:i]) for i in range(len(pieces))]
    return Packed(store, pieces, starts, sum(len(piece.tokens) for piece in pieces), torch.device("cpu"))


SHAPES = [
    Shape(width=64, key_heads=3, per_group=3),
    Shape(width=64, key_heads=3, per_group=3, dtype=torch.bfloat16),
    Shape(width=64, key_heads=3, per_group=3, dtype=torch.float16),
    Shape(width=6, key_heads=1, per_group=60),  # more than the rows of a task, and no loop for prompts
    Shape(width=80, key_heads=2, per_group=1),
    Shape(width=128, key_heads=2, per_group=8, dtype=torch.bfloat16),
]


def _named(shape: Shape) -> str:
    return f"{shape.width}x{shape.key_heads}x{shape.per_group}-{shape.dtype}"


@pytest.mark.parametrize("shape", SHAPES, ids=_named)
@pytest.mark.parametrize("window", [None, 5, 40])
def test_every_row_attends_to_its_own(one_thread: None, shape: Shape, window: int | None) -> None:
    attends_as_written_out(shape, window)


@pytest.mark.parametrize(
    ("shape", "lacking"),
    [(SHAPES[1], ()), (SHAPES[1], ("avx512bf16",)), *((shape, ("avx512bf16", "avx512f")) for shape in SHAPES[:3])],
    ids=lambda given: _named(given) if isinstance(given, Shape) else ",".join(given),
)
def test_every_row_attends_on_lesser_processors(
    one_thread: None, shape: Shape, lacking: tuple[str, ...], compiled_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "available", lambda: False)
    for module in (loops, tiles, product):
        monkeypatch.setattr(module, "can", lambda feature: feature not in lacking and can(feature))
    attends_as_written_out(shape, 40)


def attends_as_written_out(shape: Shape, window: int | None) -> None:
    """Compare some forwards of chunks of prompts and trees with attention written out, and what was stored."""
    dense = Dense(shape, seed=shape.width)
    heads = shape.key_heads * shape.per_group
    for step in range(6):
        pieces = dense.pieces(5)
        packed = _packed(dense.store, pieces)
        idle = 3
        rows = packed.rows + idle
        # As a model hands them over: heads between rows, and keys that are part of something wider.
        query = dense.random(rows, heads, shape.width).transpose(0, 1)
        key, value = dense.random(rows, shape.key_heads, 2 * shape.width).transpose(0, 1).split(shape.width, dim=2)
        if step == 3:
            query = query.transpose(1, 2).contiguous().transpose(1, 2)  # numbers of a row apart from each other
        found = attend_buffered(packed, 0, query, key, value, 0.3, window)
        assert found.dtype is shape.dtype
        assert not found[packed.rows :].any()
        for row, tree, expected in dense.attend(pieces, query, 0.3, window):
            allowed = TOLERANCE + ROUNDING[shape.dtype] * (1 if tree else WEIGHTS)
            assert float((found[row] - expected).abs().max()) < allowed * max(1.0, float(expected.abs().max()))
        start = 0
        for piece in pieces:  # what was stored is what came in
            kv = piece.kv
            assert isinstance(kv, BufferKV)
            count = len(piece.tokens)
            stored = kv.buffers[0][:, :, piece.at : piece.at + count]
            assert torch.equal(stored[0], key[:, start : start + count])
            assert torch.equal(stored[1], value[:, start : start + count])
            start += count


def test_a_long_prompt_and_a_large_tree_are_what_the_library_makes_of_them() -> None:
    before, beams, width = 900, 20, 64
    store = Buffers(Layout(layers=(LayerShape(16, width),), dtype=torch.float32, device=torch.device("cpu")))
    numbers = torch.Generator().manual_seed(0)
    query, *own = (torch.randn(heads, before + beams, width, generator=numbers) for heads in (48, 16, 16))
    key, value = (each.repeat_interleave(3, 0) for each in own)
    hidden = torch.ones(before + beams, before + beams, dtype=torch.bool).tril()
    hidden[before:, before:] = torch.eye(beams, dtype=torch.bool)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=hidden, scale=0.2).transpose(0, 1)
    kv, threads = store.open(before + beams), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for start, stop, tree in [(0, 333, False), (333, before, False), *[(before, before + beams, True)] * 5]:
            count = stop - start
            if start == kv.filled:
                at = kv.branch([0] * count) if tree else kv.extend(count)
            piece = Piece(kv, [0] * count, at, start, tree=tree, logits=True)
            given = (each[:, start:stop] for each in (query, *own))
            found = attend_buffered(_packed(store, [piece]), 0, *given, 0.2, None)
            torch.testing.assert_close(found, expected[start:stop], rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_no_memory_is_used_that_was_given_back() -> None:
    command = [*(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"), __file__]
    command += ["-k", "large_tree"]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert "1 passed" in ended.stdout, ended.stdout


def test_numbers_of_another_format_are_refused() -> None:
    store = Buffers(Layout(layers=(LayerShape(1, 4),), dtype=torch.bfloat16, device=torch.device("cpu")))
    kv = store.open(1)
    packed = _packed(store, [Piece(kv, [0], kv.extend(1), 0, tree=False, logits=True)])
    short, long = torch.ones(1, 1, 4, dtype=torch.bfloat16), torch.ones(1, 1, 4)
    for given in ((long, short, short), (short, long, short), (short, short, long), (long, long, long)):
        with pytest.raises(ValueError, match="expected one number format"):
            attend_buffered(packed, 0, *given, 1.0, None)


@pytest.mark.parametrize("shape", SHAPES[:4], ids=_named)
@pytest.mark.parametrize("which", ["query", "key", "value"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_what_is_no_number_does_not_become_one(one_thread: None, shape: Shape, which: str, number: float) -> None:
    dense, length, beams = Dense(shape, seed=0), 40, 3
    of = {
        name: dense.random(heads, length + beams, shape.width)
        for name, heads in (
            ("query", shape.key_heads * shape.per_group), ("key", shape.key_heads), ("value", shape.key_heads)
        )
    }  # fmt: skip
    of[which][0, [10, length + 1] if which == "query" else 0] = number
    kv = dense.store.open(length + beams)
    found = []
    for rows, tree in ((slice(length), False), (slice(length, None), True)):
        count = beams if tree else length
        at = kv.branch([0] * beams) if tree else kv.extend(length)
        packed = _packed(dense.store, [Piece(kv, [0] * count, at, at, tree=tree, logits=True)])
        found.append(attend_buffered(packed, 0, *(each[:, rows] for each in of.values()), 0.125, None))
    lost = torch.cat(found).flatten(1).isfinite().logical_not().any(1).nonzero().flatten().tolist()
    expected = [10, length + 1] if which == "query" else list(range(length + beams))
    ours = 0 if tiles.serves(shape.width, str(shape.dtype).removeprefix("torch.")) else length
    assert [row for row in lost if row >= ours] == [row for row in expected if row >= ours]
