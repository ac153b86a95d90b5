"""Blocks of keys and values, and which sequences share them.

A sequence is a path of blocks. All paths form a tree: prompts that begin alike share the blocks of their beginning,
whether one comes after the other or both are under way, and beams share the blocks of what they have in common. With
blocks of 4 tokens, the prompts ``ABCDEFGHI`` and ``ABCDEFxy``, and two beams behind the first::

    ABCD ─┬─ EFGH ─┬─ I12   (first beam)
          │        └─ I34   (second beam: its own copy of I)
          └─ EFxy

Source: Kwon et al. (2023), PagedAttention; Zheng et al. (2024), RadixAttention.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from defsurvey.workers.engines.transformers.core.runner import Copy


@dataclass(slots=True, eq=False)
class Block:
    """A block on the path of at least one sequence, or kept for sequences to come."""

    number: int  #: where its keys and values are
    parent: Block | None
    table: np.ndarray  #: numbers of the blocks from the first one to this
    key: tuple[int, ...] = ()  #: the tokens of a prompt that fill it: what it is found by; empty where it is private
    filled: int = 0  #: how many of the key's tokens have been computed
    users: int = 1  #: sequences that end here, and blocks in use that follow
    following: dict[tuple[int, ...], Block] = field(default_factory=dict)


class Blocks:
    """All blocks that there are: free, in use, or kept.

    Args:
        count: How many.
        size: Tokens in one.
        bytes: Of one, over all layers.
        keep: Whether blocks of prompts stay, when nobody uses them any more, until others need their place.
    """

    def __init__(self, count: int, size: int, bytes: int, *, keep: bool = True) -> None:
        self.count, self.size, self.bytes = count, size, bytes
        self.most_held = 0
        self._keep = keep
        self._free = list(range(count))[::-1]
        self._kept: OrderedDict[int, Block] = (
            OrderedDict()
        )  # by number; unused for longest first, none before what follows
        self._first: dict[tuple[int, ...], Block] = {}  # those at the beginning of prompts

    @property
    def available(self) -> int:
        """How many can be had."""
        return len(self._free) + len(self._kept)

    @property
    def held(self) -> int:
        """How many are in use or kept."""
        return self.count - len(self._free)

    def needed(self, tokens: int) -> int:
        """How many blocks so many tokens take."""
        return -(-tokens // self.size)

    def open(self, prompt: Sequence[int]) -> list[Block]:
        """The path of a prompt, as far as possible of blocks that there are; the caller uses the last.

        The block of the prompt's last two tokens is always new: the last one's logits are wanted, and some processors
        round one token by itself otherwise than two. Ask ``available`` before.
        """
        path: list[Block] = []
        for at in self._shareable(prompt):
            key = tuple(prompt[at : at + self.size])
            parent = path[-1] if path else None
            among = parent.following if parent else self._first
            found = among.get(key)
            if found is None:
                found = self._new(parent, key)
                among[key] = found
            else:
                self._use(found)
            if parent:
                self._release(parent)  # it is no end any more
            path.append(found)
        while len(path) < self.needed(len(prompt)):
            path.append(self.append(path[-1] if path else None))
            if len(path) > 1:
                self._release(path[-2])
        return path

    def shared(self, prompt: Sequence[int]) -> int:
        """How many blocks of a prompt's path there are already, and are in use: they take no place of others."""
        count, among = 0, self._first
        for at in self._shareable(prompt):
            found = among.get(tuple(prompt[at : at + self.size]))
            if found is None or not found.users:
                break
            count, among = count + 1, found.following
        return count

    def _shareable(self, prompt: Sequence[int]) -> range:
        """Where a prompt's blocks begin that can be shared."""
        return range(0, max(0, len(prompt) - 2) // self.size * self.size, self.size)

    def append(self, parent: Block | None) -> Block:
        """A new private block behind another, in use by the caller."""
        return self._new(parent, ())

    def branch(self, ends: Sequence[Block], parents: Sequence[int], length: int) -> tuple[list[Block], list[Copy]]:
        """Let sequences go on by one token each, some perhaps several times and others not at all.

        Args:
            ends: The last block of each sequence; all of them are given up for those that are returned.
            parents: For each sequence from now on, which one it continues.
            length: Tokens of each sequence so far.

        Returns:
            The last block of each, with a place for the next token, and what has to be copied.
        """
        self.close([end for index, end in enumerate(ends) if index not in parents])
        following: list[Block] = []
        copies: list[Copy] = []
        taken: set[int] = set()
        if length % self.size == 0:
            following = [self.append(ends[parent]) for parent in parents]
            self.close([ends[parent] for parent in set(parents)])
            return following, copies
        for parent in parents:
            end = ends[parent]
            if parent in taken:
                copy = self.append(end.parent)
                copies.append(Copy(end.number, copy.number, length % self.size))
                end = copy
            taken.add(parent)
            following.append(end)
        return following, copies

    def wanted(self, sequences: int, parents: Sequence[int], length: int) -> int:
        """How many blocks ``branch`` takes of those available, where so many sequences end in blocks of their own."""
        return len(parents) - (sequences if length % self.size else 0)

    def close(self, ends: Sequence[Block]) -> None:
        """Give sequences up."""
        for end in ends:
            self._release(end)

    def forget(self) -> None:
        """Free all blocks that are kept."""
        while self._kept:
            self._drop_oldest()

    def _new(self, parent: Block | None, key: tuple[int, ...]) -> Block:
        if not self._free:
            self._drop_oldest()
        number = self._free.pop()
        self.most_held = max(self.most_held, self.held)
        if parent:
            parent.users += 1
        before = len(parent.table) if parent else 0
        table = np.empty(before + 1, np.int32)
        if parent:
            table[:before] = parent.table
        table[before] = number
        return Block(number, parent, table, key)

    def _use(self, block: Block) -> None:
        if not block.users:
            del self._kept[block.number]
            if block.parent:
                block.parent.users += 1
        block.users += 1

    def _release(self, block: Block) -> None:
        """One user less; a block that nobody uses is kept or free, and uses none before it."""
        block.users -= 1
        if block.users:
            return
        if self._keep and block.key and block.filled == self.size:
            self._kept[block.number] = block
        else:
            self._free_up(block)
        if block.parent:
            self._release(block.parent)

    def _free_up(self, block: Block) -> None:
        self._free.append(block.number)
        if block.key:
            among = block.parent.following if block.parent else self._first
            del among[block.key]

    def _drop_oldest(self) -> None:
        self._free_up(self._kept.popitem(last=False)[1])
