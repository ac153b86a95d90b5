"""An engine that asks a server: many requests under way, each asked until it is answered or has to be given up.

What is sent and how a reply is read is the provider's, one module each.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from random import SystemRandom
from typing import Any

from defsurvey.storage.runs.run import EngineDescription, UsedDecoding
from defsurvey.workers.engines.base import NO_DECODING, Completion, EngineUnavailable, FinishReason, Request, give_up
from defsurvey.workers.engines.http import Declined, Rejected, Retryable
from defsurvey.workers.engines.keys import redacted
from defsurvey.workers.engines.structured import longest, options_in, schema_of
from defsurvey.workers.models import ModelCard

log = logging.getLogger(__name__)

#: Seconds before the second attempt; each further wait is twice as long.
FIRST_WAIT = 0.5
#: Seconds that a wait grows to at most, where the server does not ask for more.
LONGEST_WAIT = 60.0
#: Seconds for which a server may ask to wait, without an answer between; after that a run is better resumed later.
LONGEST_WAIT_ASKED = 600.0
#: Spreads waits, so that requests that failed together do not come back together; no answer depends on it.
_SPREAD = SystemRandom()
#: What is said beside an error of a request whose reply can name options alone.
_OTHER_WAYS = "; a server that holds replies to options in another way, or in none, has that in the card's `structured`"


class Provider(ABC):
    """Speaks one protocol. Everything is safe to call from any thread. ``key`` is kept out of messages."""

    BASE_URL: str  #: the provider's own address, where a card names no other
    CLIENT: Mapping[str, str]  #: package by which it is asked -> its version

    def __init__(self, card: ModelCard, key: str | None) -> None:
        self._card, self._key = card, key
        self._url = card.base_url or self.BASE_URL

    @abstractmethod
    def ask(self, request: Request) -> Completion:
        """Ask once; raises Retryable, Rejected, or EngineUnavailable where no request will ever succeed."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections; nothing is asked any more."""

    def describe(self) -> EngineDescription:
        """Model, address, what it takes and what is put into every request; no key."""
        return {
            "engine": self._card.engine,
            "model": self._card.model,
            "server": self._url,
            "takes": ", ".join(self._card.takes) or "no decoding parameters",
            "body": json.dumps(self._card.body, sort_keys=True),
            "answer_prefix": str(self._card.answer_prefix).lower(),
            "structured": self._card.structured,
            **self.CLIENT,
        }

    def _used(self, request: Request, sent: Mapping[str, Any], *, sampled: bool) -> UsedDecoding:
        """What was used of a request's decoding, by the parameters that were sent."""
        decoding = request.decoding
        return UsedDecoding(
            num_beams=self._beams(request) if "beams" in self._card.takes else None,
            do_sample=sampled if "temperature" in sent else None,
            temperature=sent.get("temperature"),
            top_p=sent.get("top_p"),
            top_k=decoding.top_k if "top_k" in sent else None,
            max_new_tokens=self._most(request),
        )

    def _start(self, request: Request) -> str:
        """How a reply is begun for the model; no server goes on from a beginning within a schema."""
        begun = self._card.answer_prefix and not (request.closed is not None and self._in_json)
        return request.reply_start.rstrip() if begun else ""

    @property
    def _in_json(self) -> bool:
        """Whether a reply that names options alone comes as JSON."""
        return self._card.structured == "json_schema"

    def _schema(self, request: Request) -> Mapping[str, object] | None:
        """The JSON schema that the reply is held to."""
        return schema_of(request.closed) if request.closed is not None and self._in_json else request.schema

    def _most(self, request: Request) -> int:
        """The most tokens of a reply; one that names options alone is never cut off."""
        asked = request.decoding.max_new_tokens
        return asked if request.closed is None else max(asked, longest(request.closed))

    def _beams(self, request: Request) -> int:
        """How many beams are searched: one where the reply is held to options, since vLLM holds no beam to any."""
        return request.decoding.num_beams if request.closed is None else 1

    def _in_words(self, said: str, request: Request) -> str:
        """What a finished reply says; raises Rejected where it should name options alone and names anything else."""
        closed = request.closed
        if closed is None:
            return said
        named = options_in(said.rpartition(request.reply_start.rstrip())[2], closed, as_json=self._in_json)
        if named is None:
            told = f"the server did not hold its reply to the options, as it was asked to: {said[:80]!r}"
            raise Rejected(redacted(told, self._key))
        return request.reply_start + closed.separator.join(named)


class ApiEngine:
    """Serves one model through a provider's API. ``submit`` is safe to call from any thread."""

    def __init__(self, card: ModelCard, provider: Provider, *, first_wait: float = FIRST_WAIT) -> None:
        self._name = card.name
        self._attempts = card.attempts
        self._provider = provider
        self._first_wait = first_wait
        self._pace = Pace(card.concurrency)
        self._waiting: SimpleQueue[tuple[Request, Future[Completion]] | None] = SimpleQueue()
        self._outstanding: set[Future[Completion]] = set()
        self._refused_since: float | None = None  # when the server first asked to wait since it last answered
        self._closed = False
        self._lock = threading.Lock()
        # Not an executor: that waits at exit for replies that nobody wants any more.
        self.threads = [
            threading.Thread(target=self._run, name=f"{card.name}-{number}", daemon=True)
            for number in range(card.concurrency)
        ]
        self._alive = len(self.threads)
        for thread in self.threads:
            thread.start()

    @property
    def at_once(self) -> int:
        """How many requests may be under way at once."""
        return len(self.threads)

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a request; raises EngineUnavailable after ``close``."""
        future: Future[Completion] = Future()
        with self._lock:
            if self._closed:
                raise EngineUnavailable(f"model {self._name} is closed")
            self._outstanding.add(future)
        self._waiting.put((request, future))
        return future

    def describe(self) -> EngineDescription:
        """What is asked and how, without any key."""
        return self._provider.describe()

    def close(self) -> None:
        """Cancel what is outstanding and return at once; a reply that is still under way is dropped when it comes."""
        with self._lock:
            self._closed = True
            outstanding, self._outstanding = self._outstanding, set()
        self._pace.close(f"model {self._name} is closed")
        for future in outstanding:
            give_up(future)
        for _ in self.threads:
            self._waiting.put(None)

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            request, future = work
            outcome: Completion | Exception | None = None
            if not future.cancelled():
                try:
                    outcome = self._answer(request)
                except Exception as error:  # noqa: BLE001 -- of its request alone; others still need this thread
                    outcome = error
            self._settle(future, outcome)
        with self._lock:
            self._alive -= 1
            last = self._alive == 0
        if last:
            self._provider.close()

    def _settle(self, future: Future[Completion], outcome: Completion | Exception | None) -> None:
        """Tell whoever waits, also that it was cancelled, unless ``close`` has told them."""
        with self._lock:
            wanted = future in self._outstanding
            self._outstanding.discard(future)
        if not wanted or not future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Completion):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _answer(self, request: Request) -> Completion:
        """Ask until there is a completion, or no sense in asking on."""
        for attempt in range(1, self._attempts + 1):
            try:
                with self._pace.turn():
                    completion = self._provider.ask(request)
            except EngineUnavailable as error:  # no request can succeed; what is under way may still come
                self._pace.close(f"model {self._name}: {error}")
                raise EngineUnavailable(self._pace.over) from None
            except Declined as declined:
                return Completion(text="", finish=FinishReason.REFUSAL, used=NO_DECODING, error=str(declined))
            except Rejected as rejected:
                hint = "" if request.closed is None else _OTHER_WAYS
                return Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error=f"{rejected}{hint}")
            except Retryable as passing:
                last = passing
            else:
                self._refused_since = None
                return completion
            if attempt < self._attempts:
                self._wait(attempt, last)
        asked = "once" if self._attempts == 1 else f"{self._attempts} times"
        return Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error=f"{last} (asked {asked})")

    def _wait(self, attempt: int, failure: Retryable) -> None:
        """Wait as long as the server asks, and never less than an attempt by itself: an outage would use up all."""
        spread = _SPREAD.random()
        seconds = min(LONGEST_WAIT, self._first_wait * 2 ** (attempt - 1)) * (0.5 + spread / 2)
        if failure.wait is not None:
            seconds = max(seconds, failure.wait + self._first_wait * spread)
            now = time.monotonic()
            since = self._refused_since = self._refused_since or now
            if now - since + failure.wait > LONGEST_WAIT_ASKED:
                asked = f"it asks to wait {failure.wait:.0f} s: resume later"
                self._pace.close(f"model {self._name}: {failure}; {asked}")
                return
        log.info("model %s: %s; asking again in %.1f s", self._name, failure, seconds)
        self._pace.pause(seconds)


class Pace:
    """How many requests may be under way at once: as many as the server bears. Safe to use from any thread.

    Adds slowly and takes away fast (additive increase, multiplicative decrease: Chiu & Jain 1989), as TCP does.
    """

    def __init__(self, most: int) -> None:
        self._most = self._limit = float(most)
        self._held = 0
        self._lowered_at = self._not_before = 0.0
        self._changed = threading.Condition()
        self.over = ""  #: why no more turns are given out, as the first told who closed it

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a turn while the block runs; raises EngineUnavailable after ``close``.

        A block that ends well lets a little more through; one that ends with an overloaded server halves what is let
        through, and lets nobody through until the server's wait is over.
        """
        begun = self._begin()
        try:
            yield
        except Retryable as failure:
            if failure.overloaded:
                self._slow_down(begun, failure.wait or 0.0)
            raise
        else:
            with self._changed:
                self._limit = min(self._most, self._limit + 1 / self._limit)
        finally:
            with self._changed:
                self._held -= 1
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait, unless it is closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self.over, seconds)

    def close(self, why: str) -> None:
        """Give out no more turns; whoever waits for one is told at once."""
        with self._changed:
            self.over = self.over or why
            self._changed.notify_all()

    def _begin(self) -> float:
        with self._changed:
            while not self.over:
                now = time.monotonic()  # once: a wait that ended between two looks would be waited for without end
                remaining = self._not_before - now
                if remaining <= 0 and self._held < int(self._limit):
                    self._held += 1
                    return now
                self._changed.wait(remaining if remaining > 0 else None)
            raise EngineUnavailable(self.over)

    def _slow_down(self, begun: float, wait: float) -> None:
        with self._changed:
            now = time.monotonic()
            # What was under way when the limit was lowered says nothing new: a burst of refusals counts once.
            if begun >= self._lowered_at:
                self._limit = max(1.0, self._limit / 2)
                self._lowered_at = now
            self._not_before = max(self._not_before, now + wait)
