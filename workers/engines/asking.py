"""Many requests to one engine, several under way at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, Request, outcome, submit

_Key = TypeVar("_Key")

#: Requests under way at once where a card does not say.
AT_ONCE = 16


def ask_all(
    engine: Engine, calls: Iterable[tuple[_Key, Request]], *, at_once: int = AT_ONCE
) -> Iterator[tuple[_Key, Completion]]:
    """Ask every call, taken one by one, and give each reply back as soon as it is there, in whatever order.

    Raises EngineUnavailable where the engine cannot be asked any more; what had been replied was given back before.
    """
    coming = iter(calls)
    # Not ``concurrent.futures.wait``: to that a call is under way for good where an engine of anybody's cancels it.
    over: SimpleQueue[tuple[_Key, Future[Completion]]] = SimpleQueue()
    under_way = 0
    unavailable: EngineUnavailable | None = None
    while True:
        if unavailable is None:
            for key, request in islice(coming, at_once - under_way):
                try:
                    asked = submit(engine, request)
                except EngineUnavailable as error:
                    unavailable = error
                    break
                under_way += 1
                asked.add_done_callback(lambda done, key=key: over.put((key, done)))  # type: ignore[misc]
        if not under_way:
            break
        for key, done in [over.get(), *(over.get() for _ in range(over.qsize()))]:
            under_way -= 1
            try:
                completion = outcome(done)
            except EngineUnavailable as error:
                unavailable = error
            except CancelledError:
                unavailable = unavailable or EngineUnavailable("the engine has cancelled what it was asked")
            else:
                yield key, completion
    if unavailable is not None:
        raise unavailable


def ask_together(
    engine: Engine, requests: Sequence[Request]
) -> tuple[list[tuple[int, Completion]], EngineUnavailable | None]:
    """Ask a few requests at once. Returns the place of each reply that came and the reply, in order.

    And, where the engine cannot be asked any more, why: to be raised when the replies are kept, which were paid for.
    """
    replies: dict[int, Completion] = {}
    unavailable: EngineUnavailable | None = None
    try:
        for place, reply in ask_all(engine, enumerate(requests), at_once=len(requests)):
            replies[place] = reply  # noqa: PERF403 -- those before an error are kept
    except EngineUnavailable as error:
        unavailable = error
    return [(place, replies[place]) for place in sorted(replies)], unavailable
