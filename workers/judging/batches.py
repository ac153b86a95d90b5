"""Calls handed over in a batch, at half the price: Anthropic's Message Batches.

Results come in any order; what errored or expired is told as such and costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, TypeVar

import anthropic
import httpx2
from anthropic.types.messages import MessageBatch

from defsurvey.workers.engines.anthropic import AnthropicProvider
from defsurvey.workers.engines.base import Completion, EngineUnavailable, Request
from defsurvey.workers.engines.http import Rejected, Retryable, failure, not_reached
from defsurvey.workers.engines.keys import find_key, redacted
from defsurvey.workers.models import ModelCard

_T = TypeVar("_T")

MOST_CALLS = 5000  #: calls in one batch; providers take more, but what is lost with one batch is asked anew
FIRST_LOOK, LONGEST_LOOK = 1.0, 60.0  #: seconds between two looks at a batch: the first, and the longest
_CLOCKS_DIFFER = 300.0  #: seconds by which clocks may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A call of a batch without a reply."""

    reason: str
    again: bool  #: whether the same call may succeed in another batch


class Gone(RuntimeError):
    """The provider has a batch no more, or not its results; the message is to be said behind the batch's id."""


def check_batches(card: ModelCard) -> None:
    """Refuse models that take no batches, by EngineUnavailable."""
    if not card.capabilities.batches:
        raise EngineUnavailable(f"model {card.name}: batches are only known of engine anthropic, not {card.engine}")


def _counts(batch: MessageBatch) -> tuple[int, int, int, int, int]:
    """How many of a batch's calls are under way, then how many ended in each way; their sum never changes."""
    counts = batch.request_counts
    return counts.processing, counts.succeeded, counts.errored, counts.canceled, counts.expired


class Batches:
    """Makes and reads the batches of one model of Anthropic."""

    def __init__(self, card: ModelCard) -> None:
        self._key = find_key(card)
        self._provider = AnthropicProvider(card, self._key)
        self._client = self._provider.client
        self._attempts = card.attempts

    def make(self, token: str, requests: Sequence[Request]) -> str:
        """Make a batch, by whose token it can be found again, and return its id; Retryable: it may have been made."""
        bodies = enumerate(map(self._provider.body, requests))
        calls: list[Any] = [{"custom_id": f"{token}-{number}", "params": body} for number, body in bodies]
        return self._once(lambda: self._client.messages.batches.create(requests=calls).id)

    def find(self, token: str, *, size: int, since: float, known: set[str]) -> str | None:
        """The id of the batch of ``size`` calls that was made with a token ``since`` a moment, or None.

        Only its results say whose a batch is: those that have not ended, which may take a day, are looked at last.
        """

        def made() -> list[MessageBatch]:  # the newest first, page after page
            listed, earliest = self._client.messages.batches.list(limit=100), since - _CLOCKS_DIFFER
            return list(takewhile(lambda batch: batch.created_at.timestamp() >= earliest, listed))

        found = self._patiently(made)
        alike = [batch for batch in found if batch.id not in known and sum(_counts(batch)) == size]
        for batch in sorted(alike, key=lambda batch: batch.processing_status != "ended"):
            with suppress(Gone):
                self.wait(batch.id)
                results = self._patiently(partial(self._results, batch.id))
                if any(name.startswith(f"{token}-") for name, _ in results):
                    return batch.id
        return None

    def wait(self, batch: str, *, look: Callable[[int], None] = lambda _: None) -> None:
        """Wait until a batch has ended, or raise Gone; ``look`` gets now and then how many of its calls have."""
        seconds = FIRST_LOOK
        while True:
            now = self._patiently(partial(self._retrieved, batch))
            _, *ended = _counts(now)
            look(sum(ended))
            if now.processing_status == "ended":
                return
            time.sleep(seconds)
            seconds = min(seconds * 1.5, LONGEST_LOOK)

    def results(self, batch: str, token: str, requests: Mapping[int, Request]) -> list[tuple[int, Completion | Lost]]:
        """Position of each call of ``requests``, and its reply, in the provider's order; raises Gone."""
        asked = {f"{token}-{number}": (number, request) for number, request in requests.items()}
        results = self._patiently(partial(self._results, batch))
        return [(asked[name][0], self._read(result, asked[name][1])) for name, result in results if name in asked]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _retrieved(self, batch: str) -> MessageBatch:
        try:
            return self._client.messages.batches.retrieve(batch)
        except anthropic.NotFoundError as error:
            if error.type != "not_found_error":  # whoever else answers 404, such as a proxy, knows nothing of batches
                raise
        raise Gone("is not known there any more")

    def _results(self, batch: str) -> list[tuple[str, Mapping[str, Any]]]:
        if self._retrieved(batch).results_url is None:
            raise Gone("has no results there any more")
        return [(one.custom_id, one.result.to_dict()) for one in self._client.messages.batches.results(batch)]

    def _read(self, result: Mapping[str, Any], request: Request) -> Completion | Lost:
        kind = result.get("type")
        if kind == "succeeded":
            try:
                return self._provider.completion(result["message"], request)
            except Retryable as error:
                return Lost(reason=str(error), again=True)
        if kind != "errored":
            return Lost(reason=f"it is {kind}", again=True)
        problem = result.get("error", {}).get("error", {})
        reason = redacted(f"the server says {problem.get('type')}: {problem.get('message')}", self._key)
        return Lost(reason=reason, again=problem.get("type") != "invalid_request_error")

    def _patiently(self, work: Callable[[], _T]) -> _T:
        """Do something that may be done again, until it succeeds or there is no sense in it."""
        attempt = 1
        while True:
            try:
                return self._once(work)
            except Retryable as error:
                if attempt == self._attempts:
                    raise EngineUnavailable(f"{error} (asked {attempt} times)") from None
                time.sleep(min(LONGEST_LOOK, error.wait if error.wait is not None else 0.5 * 2**attempt))
            attempt += 1

    def _once(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except anthropic.APIStatusError as error:
            went_wrong = failure(error.status_code, error.response.headers, error.response.text, self._key)
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:  # of a body that breaks off, too
            went_wrong = not_reached(error, self._key)
        if isinstance(went_wrong, Rejected):
            went_wrong = EngineUnavailable(str(went_wrong))
        raise went_wrong  # out here, so that no traceback leads to the client's request and its headers
