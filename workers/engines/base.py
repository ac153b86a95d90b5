"""What an engine is, something that turns a prompt into a completion, and how it is asked.

An engine is shared by every participant thread of its process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from queue import SimpleQueue
from typing import Literal, Protocol, TypeVar, runtime_checkable

from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs.run import Decoding, EngineDescription, UsedDecoding
from defsurvey.storage.surveys.survey import Question
from defsurvey.storage.text import storable

_Key = TypeVar("_Key")

#: What was used of the decoding asked for where nothing was decoded, or by an engine that knows no such thing.
NO_DECODING = UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None)


class EngineUnavailable(BadInput, RuntimeError):
    """The engine cannot serve at all: no weights, no key, not enough memory."""


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"  #: the model ended it
    ENOUGH = "enough"  #: the engine ended it, since the text was enough for the request (``Request.enough``)
    LENGTH = "length"  #: max_new_tokens were generated
    REFUSAL = "refusal"  #: the provider says that the model declined
    ERROR = "error"  #: the engine gave up; ``Completion.error`` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Task(StrEnum):
    """What a reply is to be."""

    ANSWER = "answer"  #: an answer to the question
    LIST = "list"  #: the answers of several people, a line for each
    CRITIQUE = "critique"  #: what is wrong with what was said before
    VOTE = "vote"  #: the number of one of several drafts


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a prompt is about, for engines that answer without reading it."""

    question: Question
    culture: str  #: code of the culture
    language: str
    shown: tuple[int, ...]  #: option codes in the order shown
    task: Task = Task.ANSWER
    number: int = 1  #: of people in a list, or of drafts to vote on


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedReply:
    """All that a reply can be behind its beginning: an option, or several with a separator between, none twice.

    >>> closed = ClosedReply(options=("1", "2", "10"), most=2)
    >>> closed.named("10, 2"), closed.named("2"), closed.named("2, 2"), closed.named("2: Rather")
    (('10', '2'), ('2',), None, None)
    """

    options: tuple[str, ...]  #: their numbers as the prompt shows them, in that order
    most: int = 1  #: how many a reply may name; it names one at least
    separator: str = ", "  #: between two of them

    def named(self, text: str) -> tuple[str, ...] | None:
        """The options that a text names; None where it is no such reply."""
        named = tuple(text.split(self.separator))
        fits = len(named) <= self.most and len(set(named)) == len(named) and set(named) <= set(self.options)
        return named if fits else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt and how its completion is to be decoded."""

    messages: tuple[Message, ...]
    decoding: Decoding
    seed: int  #: in [0, 2**63); equal requests with equal seeds give equal completions
    reply_start: str = ""  #: how a reply begins ("Answer: "), for models whose card wants it begun for them
    asked: Asked | None = None
    #: whether the text so far will do, whatever would follow it; pure. An engine that can stops there, where there
    #: are no beams; any other just goes on
    enough: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)
    #: where there are any: not a reply is asked for, but how probable each of these is as its beginning. Only some
    #: engines know (``ModelCard.gives_probabilities``)
    choices: tuple[str, ...] = ()
    schema: Mapping[str, object] | None = None  #: JSON schema of the reply, for providers that can hold a reply to one
    #: what alone the reply can be behind ``reply_start``, with which it then begins whatever the card wants; there is
    #: no ``enough``, ``choices`` or ``schema`` beside it. A reply ends where nothing can follow, or the model ends it
    closed: ClosedReply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine made of a request; its texts are as the ledger can keep them (``storage.text``)."""

    #: the whole reply: ``reply_start`` included where it was used, and the mark of a thought that the prompt began
    text: str
    finish: FinishReason
    used: UsedDecoding
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str = ""
    probabilities: tuple[float, ...] | None = None  #: of the request's ``choices``; they sum to 1

    def __post_init__(self) -> None:
        """Replace what no database can keep; it could not be sent to a server in a later prompt either."""
        object.__setattr__(self, "text", storable(self.text))
        object.__setattr__(self, "error", storable(self.error))


def submit(engine: Engine, request: Request) -> Future[Completion]:
    """Queue a request; but for CancelledError and EngineUnavailable an error at once is that of the future."""
    try:
        return engine.submit(request)
    except (CancelledError, EngineUnavailable):
        raise
    except Exception as error:  # noqa: BLE001 -- engines may be anybody's
        failed: Future[Completion] = Future()
        failed.set_exception(error)
        return failed


def outcome(future: Future[Completion]) -> Completion:
    """What became of a request; an engine's defect is told as an error completion, CancelledError and EngineUnavailable
    go through.
    """
    try:
        return future.result()
    except (CancelledError, EngineUnavailable):
        raise
    except Exception as error:  # noqa: BLE001 -- engines may be anybody's
        said = f"the engine raised {type(error).__name__}: {error}"
        return Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error=said)


def give_up(future: Future[Completion]) -> None:
    """Cancel a request, and tell whoever waits, unless it has an outcome; only one thread at a time may do that."""
    if future.cancel() and not wait((future,), timeout=0).done:
        future.set_running_or_notify_cancel()


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


@runtime_checkable
class Engine(Protocol):
    """Serves one model. ``submit`` is safe to call from any thread."""

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a request. The future never fails for the request's own sake: see ``FinishReason.ERROR``."""

    def describe(self) -> EngineDescription:
        """What is served, for provenance: weights and their hash, dtype, device, library versions."""

    def close(self) -> None:
        """Finish nothing more and give the memory back; pending futures are cancelled."""


@runtime_checkable
class Mortal(Protocol):
    """An engine that may end by itself: its worker then ends and is started again."""

    @property
    def closed(self) -> bool:
        """Whether it serves nobody any more, by ``close`` or by itself."""


@runtime_checkable
class Roomy(Protocol):
    """An engine that says how many participants it has room for; for any other there is a usual number."""

    @property
    def at_once(self) -> int | None:
        """Participants whose requests it can take at the same time; None: it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What an engine has computed since it was opened."""

    steps: int = 0  #: forwards
    rows: int = 0  #: tokens computed over all forwards, prompts included
    beam_rows: int = 0  #: rows of beams over all forwards: each one a token of one beam
    prefilled_tokens: int = 0  #: tokens of prompts computed
    reused_tokens: int = 0  #: tokens of prompts taken over from earlier ones
    reply_tokens: int = 0  #: tokens of finished replies
    finished: int = 0  #: replies delivered
    restarted: int = 0  #: requests that were begun again, for want of memory or after a failure
    kv_bytes: int = 0  #: held now, kept prompts included
    peak_kv_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  #: by phase

    @property
    def rows_per_step(self) -> float:
        """Mean number of rows in a forward."""
        return self.rows / self.steps if self.steps else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Reply tokens for each second that was not idle."""
        busy = sum(seconds for phase, seconds in self.seconds.items() if phase != "idle")
        return self.reply_tokens / busy if busy else 0.0


@runtime_checkable
class Counting(Protocol):
    """An engine that counts what it computes, for ``defsurvey worker --profile``."""

    def counters(self) -> Counters:
        """Totals since it was opened; asked just before it is closed."""
