"""The product of some rows with 32 columns in a processor's matrix units (AMX): what compiled loops are made of.

Numbers are bfloat16, taken in pairs, and summed in float32. A processor has eight tiles: here two of rows, two of
columns and four of sums.
"""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from defsurvey.workers.engines.transformers.cpu.compiled import octets
from defsurvey.workers.engines.transformers.cpu.product import can

#: Rows of a tile, of which a product takes one or two.
TILE = 16
#: Rows and columns of a product of two tiles each.
ROWS, COLUMNS = 2 * TILE, 2 * TILE
#: Pairs of numbers that a tile has of a row: a product sums a multiple of them.
PAIRS = 16
#: Bytes that say what tiles are like.
CONFIGURATION = 64

#: So many steps of ``PAIRS`` before they are wanted columns are sent for.
_AHEAD = 1

#: How Linux is asked to let a process use the units (arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
_ARCH_PRCTL, _ASK, _TILES = 158, 0x1023, 18
_BYTE, _LONG = ir.IntType(8), ir.IntType(64)


@cache
def available() -> bool:
    """Whether there are matrix units for bfloat16 that this process may use."""
    if not (can("amx-tile") and can("amx-bf16") and sys.platform == "linux"):
        return False
    return int(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ASK, _TILES)) == 0


@njit(inline="always")
def begin(space: int) -> None:  # pragma: no cover
    """For compiled code: make tiles ready in this thread; ``space`` is the address of ``CONFIGURATION`` bytes."""
    told = octets(space)
    for place in range(CONFIGURATION):
        told[place] = 0
    told[0] = 1  # the only kind of tiles there is
    for tile in range(8):
        told[16 + 2 * tile] = 64  # bytes of a row
        told[48 + tile] = TILE
    _configure(space)


@intrinsic
def _configure(_typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _ask(builder, "ldtilecfg", builder.inttoptr(arguments[0], _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(address), generate


@intrinsic
def end(_typing: Any) -> Any:
    """For compiled code: give up what ``begin`` made ready, which others expect as little as they leave it behind."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        _ask(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic(prefer_literal=True)
def multiply(
    _typing: Any,
    tall: Any,
    onto: Any,
    _rows: Any,
    _row_step: Any,
    _columns: Any,
    _column_step: Any,
    _result: Any,
    _result_step: Any,
    _units: Any,
) -> Any:
    """For compiled code, between ``begin`` and ``end``: rows times columns.

    Args of a call, integers all of them:
        tall: for how many tiles there are rows, 1 or 2; a constant.
        onto: 1 where the product is added to what is in the result, else 0; a constant.
        rows: address of the first of them, of bfloat16 numbers; then how many bytes lie between two.
        columns: address of the first pairs of ``COLUMNS`` columns; then likewise.
        result: address of as many rows in float32 as there are of rows, and likewise.
        units: how many pairs a row has, a multiple of ``PAIRS`` and at least as many.
    """
    count, added = tall.literal_value, bool(onto.literal_value)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        left, left_step, right, right_step, target, target_step, units = arguments[2:]
        # Sums are tiles 0 to 3, rows 4 and 5, columns 6 and 7.
        sums = [(row, column, _BYTE(2 * row + column)) for row in range(count) for column in range(2)]

        def beside(address: Any, step: Any, row: int, column: int) -> Any:
            there = builder.add(address, builder.add(builder.mul(step, _LONG(row * TILE)), _LONG(column * 4 * TILE)))
            return builder.inttoptr(there, _BYTE.as_pointer())

        for row, column, tile in sums:
            if added:
                _ask(builder, "tileloadd64", tile, beside(target, target_step, row, column), target_step)
            else:
                _ask(builder, "tilezero", tile)
        before, body = builder.basic_block, builder.append_basic_block("units")
        after = builder.append_basic_block("summed")
        builder.branch(body)
        builder.position_at_end(body)
        unit = builder.phi(_LONG)
        unit.add_incoming(_LONG(0), before)
        rows = builder.add(left, builder.mul(unit, _LONG(4)))
        columns = builder.add(right, builder.mul(unit, right_step))
        for column in range(2):
            _ask(builder, "tileloadd64", _BYTE(6 + column), beside(columns, right_step, 0, column), right_step)
        _send_for(builder, columns, right_step)
        for row in range(count):
            _ask(builder, "tileloadd64", _BYTE(4 + row), beside(rows, left_step, row, 0), left_step)
        for row, column, tile in sums:
            _ask(builder, "tdpbf16ps", tile, _BYTE(4 + row), _BYTE(6 + column))
        following = builder.add(unit, _LONG(PAIRS))
        unit.add_incoming(following, body)
        builder.cbranch(builder.icmp_signed("<", following, units), body, after)
        builder.position_at_end(after)
        for row, column, tile in sums:
            _ask(builder, "tilestored64", tile, beside(target, target_step, row, column), target_step)
        return context.get_dummy_value()

    return types.void(tall, onto, *[types.int64] * 7), generate


def _send_for(builder: Any, columns: Any, step: Any) -> None:
    """Let columns that are wanted soon come near, whosever they are."""
    word = ir.IntType(32)
    for pair in range(_AHEAD * PAIRS, (_AHEAD + 1) * PAIRS):
        for half in (0, 64):
            there = builder.add(columns, builder.add(builder.mul(step, _LONG(pair)), _LONG(half)))
            place = builder.inttoptr(there, _BYTE.as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [place.type, word, word, word])
            prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
            builder.call(prefetch, [place, word(0), word(3), word(1)])


def _ask(builder: Any, instruction: str, *arguments: Any) -> None:
    """An instruction of the units; tiles are named by constants."""
    kind = ir.FunctionType(ir.VoidType(), [each.type for each in arguments])
    builder.call(builder.module.declare_intrinsic(f"llvm.x86.{instruction}", (), kind), arguments)
