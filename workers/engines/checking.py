"""Whether a model can be asked here, found out by asking it once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path

from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, FinishReason, Request, outcome, submit
from defsurvey.workers.engines.opening import check_card, describe_engine, open_engine
from defsurvey.workers.models import ModelCard

#: How many tokens of a reply are asked for.
TOKENS = 8
#: What is said where a server was not asked.
NOT_CONTACTED = "server not contacted: use --weights"


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

    Args:
        card: The model.
        request: What it is asked.
        survey: What the request is about.
        cache: Folder under which what is fetched is kept.
        weights: Whether to generate; a model behind a server is asked, which may cost a fraction of a cent.
        device: Where the model runs.

    Raises:
        EngineUnavailable: something is missing or cannot be loaded, the reply ended in an error, or an engine of the
            user's own raised one.
    """
    check_card(card, cache=cache)
    short = replace(request, decoding=replace(request.decoding, max_new_tokens=TOKENS))
    checked = _described(card, short, cache) if card.engine == "transformers" else _sent(card, short)
    if not weights:
        return checked
    if card.api is not None:  # a person waits: a server that is down is told of after one attempt
        card = replace(card, api=replace(card.api, attempts=1))
    engine = open_engine(card, survey=survey, device=device, cache=cache)
    try:
        completion = _replied(card, engine, short)
        served = describe_engine(card.name, engine)
    finally:
        engine.close()
    return replace(checked, served=served, reply=completion.text, note="")


def _replied(card: ModelCard, engine: Engine, request: Request) -> Completion:
    try:
        completion = outcome(submit(engine, request))
    except CancelledError:
        raise EngineUnavailable(f"model {card.name}: the reply was cancelled") from None
    if completion.finish is FinishReason.ERROR:
        why = " ".join(completion.error.split())
        raise EngineUnavailable(f"model {card.name}: the reply ended in an error: {why}")
    return completion


def _sent(card: ModelCard, request: Request) -> Checked:
    """A model behind a server, a respondent that follows a rule, or an engine of the user's own."""
    server = {} if card.api is None else {"model": card.api.model, "server": card.api.base_url or "the provider's own"}
    turns = "\n".join(f"[{message.role}] {message.content}" for message in request.messages)
    return Checked(
        name=card.name,
        facts={"engine": card.engine, **server},
        prompt=turns,
        prompt_tokens=None,
        note=NOT_CONTACTED if server else "",
    )


def _described(card: ModelCard, request: Request, cache: Path) -> Checked:
    from defsurvey.workers.engines.transformers import loading
    from defsurvey.workers.engines.transformers.prompt import encode_prompt, render_prompt
    from defsurvey.workers.engines.transformers.quantising import stored_as
    from defsurvey.workers.engines.transformers.weights import find_description

    found = find_description(card, cache)
    with loading.naming_the_model(card, found.folder, "the prompt"):
        config = loading.read_config(found)
        tokenizer = loading.read_tokenizer(found)
        prompt = render_prompt(
            tokenizer,
            card.chat_template,
            request,
            answer_prefix=card.answer_prefix,
            options=card.template_options,
        )
        tokens = len(encode_prompt(tokenizer, card.chat_template, prompt))
        ends = tokenizer.convert_ids_to_tokens(list(loading.own_ends(card, tokenizer)))
        window = getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
        facts = {
            "engine": card.engine,
            **found.origin,
            **(stored_as(found) if found.gguf is not None else {}),
            "architecture": ", ".join(config.architectures or ()) or config.model_type,
            "window": str(window),
            "vocabulary": str(len(tokenizer)),
            "ends": ", ".join(dict.fromkeys([*([tokenizer.eos_token] if tokenizer.eos_token else []), *ends])),
            "quantisation": card.quantisation,
            "chat_template": loading.told_of_template(card, tokenizer),
        }
    return Checked(name=card.name, facts=facts, prompt=prompt, prompt_tokens=tokens)
