"""From a model card to the engine that serves it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.engines.keys import find_key
from defsurvey.workers.engines.machine import resolved
from defsurvey.workers.models import ENGINES, OWN_ENGINE, TAKEN, ModelCard

log = logging.getLogger(__name__)


def check_card(card: ModelCard, *, cache: Path, key: bool = True) -> None:
    """Find out cheaply whether a card can be served here: no weights are read and nothing is fetched.

    Args:
        card: The model.
        cache: Folder under which fetched weights are kept; it need not exist.
        key: Whether the key of its server has to be here.

    Raises:
        EngineUnavailable: its provider has retired it, its engine is unknown or not installed, its weights are
            not where the card says, the key of its server is missing, or the cache is not a folder.
    """
    if card.retired:
        raise EngineUnavailable(
            f"model {card.name} is no longer served by its provider: take {card.retired} instead, as a model of its own"
        )
    if card.engine == "scripted":
        return
    if card.engine in TAKEN:
        _check_api(card, key=key)
        return
    if OWN_ENGINE.fullmatch(card.engine):
        _own_engine(card)
        return
    if card.engine != "transformers":
        raise EngineUnavailable(
            f"model {card.name}: field engine: expected one of {', '.join(ENGINES)}, got {card.engine!r}"
        )
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise EngineUnavailable(f"model {card.name}: engine transformers needs the package {package}")
    if card.path is not None and not card.path.exists():
        raise EngineUnavailable(f"model {card.name}: field path: there is no file or folder {card.path}")
    if card.path is not None and card.path.is_file() and card.path.suffix != ".gguf":
        raise EngineUnavailable(f"model {card.name}: field path: expected a folder or a .gguf file, got {card.path}")
    if cache.exists() and not cache.is_dir():
        raise EngineUnavailable(f"model {card.name}: the cache {cache} is not a folder")


def open_engine(
    card: ModelCard, *, survey: Survey, device: str = "cpu", cache: Path, threads: int | None = None
) -> Engine:
    """Start the engine that a card names; weights that are not here yet are fetched into ``cache``.

    Args:
        card: The model.
        survey: What is asked; scripted respondents look up in it what people answered.
        device: Where the model runs, see ``workers.engines.machine.resolved``.
        cache: Folder under which fetched weights are kept.
        threads: CPU threads for one model, at least 1; None leaves it to the library.

    Raises:
        EngineUnavailable: see ``check_card``; also weights that cannot be had or loaded, and whatever else keeps the
            engine from opening, of which the log has the traceback: whoever tried again would be told the same.
    """
    with _or_unavailable(f"model {card.name}: cannot be opened"):
        return _open(card, survey=survey, device=device, cache=cache, threads=threads)


def describe_engine(name: str, engine: Engine) -> EngineDescription:
    """What an engine says of itself.

    Raises:
        EngineUnavailable: it cannot say, and nobody is asked by what may be another engine; the log has the traceback.
    """
    with _or_unavailable(f"model {name}: cannot be described"):
        return engine.describe()


@contextmanager
def _or_unavailable(told: str) -> Iterator[None]:
    """An error that nobody foresaw means that the engine cannot serve; the log has its traceback."""
    try:
        yield
    except EngineUnavailable:
        raise
    except Exception as error:
        told = f"{told}: {_in_one_line(error)}"
        log.exception("%s", told)
        raise EngineUnavailable(told) from error


def _open(card: ModelCard, *, survey: Survey, device: str, cache: Path, threads: int | None) -> Engine:
    check_card(card, cache=cache)
    if card.engine == "scripted":
        from defsurvey.workers.engines.scripted import ScriptedEngine

        return ScriptedEngine(card, survey)
    if OWN_ENGINE.fullmatch(card.engine):
        opened = _own_engine(card)(card, survey=survey, device=resolved(device))
        if not isinstance(opened, Engine):
            got = f"{card.engine} opened a {type(opened).__name__}, which is no engine"
            raise EngineUnavailable(f"model {card.name}: field engine: {got}: it needs submit, describe and close")
        return opened
    if card.engine == "anthropic":
        from defsurvey.workers.engines.anthropic import open_anthropic

        return open_anthropic(card)
    if card.engine == "openai":
        from defsurvey.workers.engines.openai import open_openai

        return open_openai(card)
    from defsurvey.workers.engines.transformers.engine import open_transformers

    return open_transformers(card, device=resolved(device), cache=cache, threads=threads)


def _check_api(card: ModelCard, *, key: bool) -> None:
    """A server is not asked whether it is there: that can cost money, and it may come up later."""
    if card.api is None:
        raise EngineUnavailable(f"model {card.name}: field api: expected how its server is asked, got nothing")
    if key:
        find_key(card)


def _own_engine(card: ModelCard) -> Callable[..., Engine]:
    """The function that opens an engine of the user's own; it takes the card, ``survey`` and ``device``."""
    module, _, name = card.engine.partition(":")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:
        told = error if isinstance(error, (ImportError, AttributeError)) else _in_one_line(error)
        raise EngineUnavailable(f"model {card.name}: field engine: cannot import {card.engine}: {told}") from error
    if not callable(found):
        raise EngineUnavailable(f"model {card.name}: field engine: {card.engine} is not a function")
    return found  # type: ignore[no-any-return]  # what it opens is looked at when it is there


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
