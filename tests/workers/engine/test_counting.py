"""What an engine counts, whichever way it serves: replies, tokens, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import Completion, Message, Request
from defsurvey.workers.engines.transformers import tally as tally_module
from defsurvey.workers.engines.transformers.engine import TransformersEngine
from defsurvey.workers.engines.transformers.tally import Tally


def _asked(engine: TransformersEngine, number: int) -> Future[Completion]:
    asked = (Message(role="user", content=f"Question {number}?"),)
    return engine.submit(Request(messages=asked, decoding=Decoding(max_new_tokens=8), seed=number))


def test_replies_tokens_and_seconds_are_counted_either_way(engine: TransformersEngine) -> None:
    """Also after closing."""
    completions = [future.result(30) for future in [_asked(engine, number) for number in range(5)]]
    engine.close()
    counted = engine.counters()
    assert counted.finished == 5
    assert counted.reply_tokens == sum(one.completion_tokens or 0 for one in completions)
    assert counted.prefilled_tokens + counted.reused_tokens == sum(one.prompt_tokens or 0 for one in completions)
    assert min(counted.seconds[phase] for phase in ("admit", "forward", "deliver")) > 0
    assert counted.tokens_per_second > 0


def test_who_waits_for_requests_is_idle(engine: TransformersEngine) -> None:
    """Seen while it lasts, not only once it has ended; time spent on requests is none of it."""
    _eventually(lambda: engine.counters().seconds["idle"] > 0)
    before = engine.counters().seconds["idle"]
    time.sleep(0.05)
    assert engine.counters().seconds["idle"] >= before + 0.05
    began = time.monotonic()
    _asked(engine, 1).result(30)
    engine.close()
    seconds = engine.counters().seconds
    assert sum(seconds.values()) - seconds["idle"] <= time.monotonic() - began


def _eventually(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not done() and time.monotonic() < until:
        time.sleep(0.001)
    assert done()


def test_a_reading_never_falls_behind_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way counts as far as it has come, and is counted once."""
    now = [100.0]
    monkeypatch.setattr(tally_module.time, "perf_counter", lambda: now[0])
    tally = Tally()
    assert tally.read().seconds["idle"] == 0
    with tally.phase("idle"):
        now[0] = 103.0
        assert tally.read().seconds["idle"] == 3
        assert tally.read().seconds["idle"] == 3
        now[0] = 104.0
    now[0] = 110.0
    with tally.phase("forward"):
        now[0] = 111.0
    assert (tally.read().seconds["idle"], tally.read().seconds["forward"]) == (4, 1)
