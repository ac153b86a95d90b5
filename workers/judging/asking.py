"""A judge that is asked one call at a time, many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from itertools import islice
from operator import itemgetter
from queue import SimpleQueue
from typing import TypeVar

from defsurvey.storage.runs.judgement import Finding, Judge, Judgement, JudgeName, Rubric, judge_identity
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, FinishReason, Request, outcome, submit
from defsurvey.workers.engines.opening import describe_engine
from defsurvey.workers.judging.prompt import VERSIONS
from defsurvey.workers.judging.verdicts import findings_in, merged
from defsurvey.workers.models import ModelCard

_Key = TypeVar("_Key")

#: Calls under way at once where a card does not say.
AT_ONCE = 16


class JudgeGaveUp(RuntimeError):
    """There is no reply to one call; the message says why."""


def check_judge(card: ModelCard) -> None:
    """Refuse what cannot judge.

    Raises:
        EngineUnavailable: the model is a rule that answers surveys.
    """
    if not card.capabilities.reads_prompts:
        raise EngineUnavailable(f"model {card.name} cannot judge: it is a scripted respondent and reads no prompt")


def judge_name(card: ModelCard, engine: Engine, rubric: Rubric = Rubric.OWN) -> JudgeName:
    """The name under which a judge's verdicts are kept: model, version, rubric.

    The version is the model that a server is asked for; else a hash or a revision, cut short; else whatever the engine
    says of its weights, all of it: a folder's path, or the words of an engine of the user's own.
    """
    said = describe_engine(card.name, engine)
    digest = said.get("weights_sha256") or said.get("revision") or ""
    version = card.model if card.hosted else digest[:12] or said.get("weights") or card.revision
    return JudgeName(
        identity=judge_identity(card.name, version, rubric, VERSIONS[rubric]),
        model=Judge(model=card.name, sample=1.0, rubric=rubric).key,
        description={name: value for name, value in said.items() if name != "server"},
        input_price=card.input_price,
        output_price=card.output_price,
    )


def ask_all(
    engine: Engine, calls: Iterable[tuple[_Key, Request]], *, at_once: int = AT_ONCE
) -> Iterator[tuple[_Key, Completion]]:
    """Ask every call and give each reply back as soon as it is there, in whatever order.

    What else an engine raises is told as the completion of that call.

    Args:
        engine: the judge.
        calls: taken one by one, no sooner than they can be asked.
        at_once: how many are under way.

    Raises:
        EngineUnavailable: the judge cannot be asked any more, or has cancelled a call; what had been replied was given
            back before.
    """
    coming = iter(calls)
    # Not ``concurrent.futures.wait``: to that a call is under way for good where an engine of anybody's cancels it.
    over: SimpleQueue[tuple[_Key, Future[Completion]]] = SimpleQueue()
    under_way = 0

    def tell(key: _Key, done: Future[Completion]) -> None:
        over.put((key, done))

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
                asked.add_done_callback(partial(tell, key))
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
    replies: list[tuple[int, Completion]] = []
    unavailable: EngineUnavailable | None = None
    try:
        for reply in ask_all(engine, enumerate(requests), at_once=len(requests)):
            replies.append(reply)  # noqa: PERF402 -- those before an error are kept
    except EngineUnavailable as error:
        unavailable = error
    return sorted(replies, key=itemgetter(0)), unavailable


def judgement_in(completion: Completion, response: str, by_program: Mapping[str, Finding]) -> Judgement:
    """What a reply says of a response.

    Raises:
        JudgeGaveUp: it ended in an error: there is no reply, and nothing was paid.
    """
    if completion.finish is FinishReason.ERROR:
        raise JudgeGaveUp(completion.error)
    return Judgement(
        findings=merged(by_program, findings_in(completion, response)),
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )
