"""From a model card to the engine that serves it, and whether a model can be asked here at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable, FinishReason, Request, outcome, submit
from defsurvey.workers.engines.keys import find_key
from defsurvey.workers.engines.machine import resolved
from defsurvey.workers.models import ENGINES, ModelCard

log = logging.getLogger(__name__)

#: How many tokens of a reply ``check_model`` asks for.
_TOKENS = 8


def check_card(card: ModelCard, *, cache: Path, key: bool = True) -> None:
    """Raise EngineUnavailable where a card cannot be served here; no weights are read, nothing is fetched or asked.

    ``key``: whether the key of its server has to be here.
    """
    can, where = card.capabilities, f"model {card.name}"
    if card.retired:
        instead = f"take {card.retired} instead, as a model of its own"
        raise EngineUnavailable(f"{where} is no longer served by its provider: {instead}")
    if can.hosted and key:
        find_key(card)
    for package in can.packages:
        if find_spec(package) is None:
            raise EngineUnavailable(f"{where}: engine {card.engine} needs the package {package}")
    if card.engine not in ENGINES:
        _opener(card)
    if not can.weights:
        return
    if card.path is not None and not card.path.exists():
        raise EngineUnavailable(f"{where}: field path: there is no file or folder {card.path}")
    if card.path is not None and card.path.is_file() and card.path.suffix != ".gguf":
        raise EngineUnavailable(f"{where}: field path: expected a folder or a .gguf file, got {card.path}")
    if cache.exists() and not cache.is_dir():
        raise EngineUnavailable(f"{where}: the cache {cache} is not a folder")


def open_engine(
    card: ModelCard, *, survey: Survey, device: str = "cpu", cache: Path, threads: int | None = None
) -> Engine:
    """Start the engine that a card names; weights that are not here yet are fetched into ``cache``.

    ``threads``: of the CPU, for one model. Raises EngineUnavailable, of which the log has the traceback.
    """
    with _or_unavailable(f"model {card.name}: cannot be opened"):
        check_card(card, cache=cache)
        can, given = card.capabilities, dict[str, Any]()
        if can.knows_survey:
            given["survey"] = survey
        if can.on_device:
            given["device"] = resolved(device)
        if can.weights:
            given |= {"cache": cache, "threads": threads}
        opened = _opener(card)(card, **given)
        if not isinstance(opened, Engine):
            got = f"{card.engine} opened a {type(opened).__name__}, which is no engine"
            raise EngineUnavailable(f"model {card.name}: field engine: {got}: it needs submit, describe and close")
        return opened


def describe_engine(name: str, engine: Engine) -> EngineDescription:
    """What an engine says of itself; raises EngineUnavailable where it cannot: it may be another engine."""
    with _or_unavailable(f"model {name}: cannot be described"):
        return engine.describe()


@contextmanager
def _or_unavailable(what: str) -> Iterator[None]:
    """An error that nobody foresaw means that the engine cannot serve; the log has its traceback."""
    try:
        yield
    except EngineUnavailable:
        raise
    except Exception as error:
        message = f"{what}: {_in_one_line(error)}"
        log.exception("%s", message)
        raise EngineUnavailable(message) from error


def _opener(card: ModelCard) -> Callable[..., object]:
    """The function that opens a card's engine."""
    module, _, name = card.capabilities.opens.partition(":")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:
        why = error if isinstance(error, (ImportError, AttributeError)) else _in_one_line(error)
        raise EngineUnavailable(f"model {card.name}: field engine: cannot import {card.engine}: {why}") from error
    if not callable(found):
        raise EngineUnavailable(f"model {card.name}: field engine: {card.engine} is not a function")
    opener: Callable[..., object] = found
    return opener


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was seen of a model."""

    name: str
    facts: Mapping[str, str]  #: of its configuration and tokenizer, and where they come from
    prompt: str  #: the very text that the model continues; behind a server, the turns that are sent
    prompt_tokens: int | None  #: None: not known, since the tokenizer is not here
    served: Mapping[str, str] | None = None  #: how the engine describes itself; None: the weights were not asked for
    reply: str | None = None  #: its first tokens; None: the weights were not asked for
    note: str = ""  #: what was not checked


def check_model(
    card: ModelCard, request: Request, *, survey: Survey, cache: Path, weights: bool, device: str = "cpu"
) -> Checked:
    """Load what a card names and render one prompt; with ``weights`` also load the weights and begin one reply.

    A model behind a server is asked then, which may cost a fraction of a cent. Raises EngineUnavailable.
    """
    check_card(card, cache=cache)
    short = replace(request, decoding=replace(request.decoding, max_new_tokens=_TOKENS))
    facts: Mapping[str, str] = {}
    if card.capabilities.weights:
        from defsurvey.workers.engines.transformers.rendering import rendered

        prompt, tokens, facts = rendered(card, short, cache)
    else:
        prompt, tokens = "\n".join(f"[{message.role}] {message.content}" for message in request.messages), None
        if card.hosted:
            facts = {"model": card.model or "", "server": card.base_url or "the provider's own"}
    checked = Checked(name=card.name, facts={"engine": card.engine, **facts}, prompt=prompt, prompt_tokens=tokens)
    if not weights:
        return replace(checked, note="server not contacted: use --weights") if card.hosted else checked
    # a person waits: a server that is down is reported after one attempt
    card = card.model_copy(update={"attempts": 1})
    engine = open_engine(card, survey=survey, device=device, cache=cache)
    try:
        completion = outcome(submit(engine, short))
        served = describe_engine(card.name, engine)
    except CancelledError:
        raise EngineUnavailable(f"model {card.name}: the reply was cancelled") from None
    finally:
        engine.close()
    if completion.finish is FinishReason.ERROR:
        why = " ".join(completion.error.split())
        raise EngineUnavailable(f"model {card.name}: the reply ended in an error: {why}")
    return replace(checked, served=served, reply=completion.text)
