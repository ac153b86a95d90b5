"""A request that an engine gives up: whoever waits for it, one way or the other, is told once."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, wait

import pytest

from defsurvey.workers.engines.base import NO_DECODING, Completion, FinishReason, give_up
from defsurvey.workers.engines.scripted import Delay

REPLY = Completion(text="Answer: 1", finish=FinishReason.STOP, used=NO_DECODING)


@pytest.mark.parametrize("by_its_owner", [False, True])
def test_what_is_given_up_is_over_for_those_who_wait(caplog: pytest.LogCaptureFixture, *, by_its_owner: bool) -> None:
    """Whoever cancelled it, and however often it is given up: a future that is told of twice is a defect."""
    future: Future[Completion] = Future()
    if by_its_owner:
        assert future.cancel()
    for _ in range(2):
        give_up(future)
        assert wait([future], timeout=0).done
    with pytest.raises(CancelledError):
        future.result(0)
    assert not caplog.records


def test_what_is_there_already_stays() -> None:
    """A reply is not taken back, nor one that is just being handed over."""
    future: Future[Completion] = Future()
    assert future.set_running_or_notify_cancel()
    give_up(future)
    future.set_result(REPLY)
    give_up(future)
    assert future.result(0) == REPLY


def test_replies_that_never_come_due_are_over_for_those_who_wait() -> None:
    """Those that their owner cancelled before as well."""
    delay = Delay()
    futures = [delay.after(60.0, REPLY) for _ in range(3)]
    assert futures[1].cancel()
    delay.close()
    assert not wait(futures, timeout=1).not_done
