"""A judge that is asked many calls at once: what it raises, and what was replied meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from itertools import islice

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.asking import ask_all
from defsurvey.workers.engines.base import Completion, EngineUnavailable, Message, Request
from defsurvey.workers.judging.verdicts import JudgeGaveUp, judgement_in
from tests.workers.paraphrasers import Paraphraser


def raising(error: Exception, *, late: bool) -> Paraphraser:
    """Replies with the number it is asked, but raises at the third: at once, or as the future's outcome."""

    def reply(prompt: str) -> str:
        if prompt == "2":
            raise error
        return prompt

    return Paraphraser(reply, late=late)


class Ending(Paraphraser):
    """Ends while it is asked, and cancels what it was asked as an engine of anybody's would: without a word more."""

    def submit(self, request: Request) -> Future[Completion]:
        """Reply, or cancel a little later."""
        if request.messages[0].content != "2":
            return super().submit(request)
        future: Future[Completion] = Future()
        threading.Timer(0.05, future.cancel).start()
        return future


def calls(number: int) -> list[tuple[int, Request]]:
    """So many calls, each of which says its number."""
    return [
        (n, Request(messages=(Message(role="user", content=str(n)),), decoding=Decoding(), seed=n))
        for n in range(number)
    ]


@pytest.mark.parametrize("late", [False, True])
def test_what_an_engine_raises_is_no_reply_to_one_call(late: bool) -> None:
    """An engine may be anybody's: the others go on, and it is told as the end of that call."""
    said = dict(ask_all(raising(ZeroDivisionError("by zero"), late=late), calls(6), at_once=4))
    assert sorted(said) == list(range(6))
    with pytest.raises(JudgeGaveUp, match="the engine raised ZeroDivisionError: by zero"):
        judgement_in(said[2], "", {})


@pytest.mark.parametrize("late", [False, True])
def test_what_is_under_way_when_a_judge_goes_away_is_given_back(late: bool) -> None:
    """It was paid for; nothing more is asked."""
    replies = ask_all(raising(EngineUnavailable("no credit"), late=late), calls(9), at_once=4)
    under_way = [0, 1, 3] if late else [0, 1]
    assert sorted(number for number, _ in islice(replies, len(under_way))) == under_way
    with pytest.raises(EngineUnavailable, match="no credit"):
        next(replies)


@pytest.mark.timeout(10)
def test_a_judge_that_ends_under_those_who_ask_it_cannot_be_asked_any_more() -> None:
    """Nobody waits on for what it has cancelled; what was replied is given back."""
    replies = ask_all(Ending(str), calls(9), at_once=4)
    given: list[int] = []
    with pytest.raises(EngineUnavailable, match="the engine has cancelled what it was asked"):
        given.extend(number for number, _ in replies)
    assert given[:3] == [0, 1, 3]
    assert 2 not in given
