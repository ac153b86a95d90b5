"""The tree of blocks under random sequences: who shares what, and that no block is lost or given out twice."""

import random

import pytest

from defsurvey.workers.engines.transformers.core.blocks import Block, Blocks


def _filled(path: list[Block]) -> None:
    for block in path:
        block.filled = max(block.filled, len(block.key))


def _tables(live: list[tuple[list[Block], int]]) -> list[list[int]]:
    return [end.table.tolist() for ends, _ in live for end in ends]


def test_prompts_share_whole_blocks_and_beams_all_but_the_last() -> None:
    blocks = Blocks(20, 4, 1)
    one = blocks.open((1, 2, 3, 4, 5, 6, 7, 8, 9))
    other = blocks.open((1, 2, 3, 4, 5, 6, 0))
    assert one[0] is other[0]
    assert blocks.held == 4
    (first, second), copies = blocks.branch(one[-1:], (0, 0), 9)
    assert copies == [(first.number, second.number)]
    assert first.table[:-1].tolist() == second.table[:-1].tolist() == [block.number for block in one[:2]]
    _filled(one)
    _filled(other)
    blocks.close([first, second, *other[-1:]])
    assert (blocks.held, blocks.available) == (2, 20)
    assert blocks.open((1, 2, 3, 4, 5, 6, 7, 8, 9))[:2] == one[:2]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_no_block_is_lost_or_in_two_places(seed: int, keep: bool) -> None:
    rng = random.Random(seed)
    size, count = rng.choice([1, 2, 4]), 60
    blocks = Blocks(count, size, 1, keep=keep)
    live: list[tuple[list[Block], int]] = []
    for _ in range(300):
        what = rng.random()
        if what < 0.35:
            prompt = [rng.randrange(2) for _ in range(rng.randrange(1, 12))]
            if blocks.needed(len(prompt)) <= blocks.available:
                path = blocks.open(prompt)
                if rng.random() < 0.8:
                    _filled(path)
                live.append((path[-1:], len(prompt)))
        elif what < 0.75 and live:
            ends, length = live.pop(rng.randrange(len(live)))
            parents = [rng.randrange(len(ends)) for _ in range(rng.randrange(1, 5))]
            before = blocks.available
            if (wanted := blocks.wanted(len(ends), parents, length)) <= before:
                following, copies = blocks.branch(ends, parents, length)
                assert blocks.available >= before - wanted
                assert len({target for _, target in copies}) == len(copies)
                live.append((following, length + 1))
            else:
                blocks.close(ends)
        elif live:
            blocks.close(live.pop(rng.randrange(len(live)))[0])
        tables = _tables(live)
        assert all(len(table) == blocks.needed(length) for ends, length in live for table in _tables([(ends, length)]))
        assert len({number for table in tables for number in table}) == count - blocks.available
        last = [table[-1] for table in tables]
        assert len(set(last)) == len(last)  # whoever writes next writes into a block of its own
    for ends, _ in live:
        blocks.close(ends)
    assert blocks.available == count
    blocks.forget()
    assert blocks.held == 0
