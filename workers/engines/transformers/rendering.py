"""What a model would be asked, as its own tokenizer and template write it; the weights stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from defsurvey.workers.engines.base import Request
from defsurvey.workers.engines.transformers import loading
from defsurvey.workers.engines.transformers.core.prompt import encode_prompt, render_prompt
from defsurvey.workers.engines.transformers.quantising import stored_as
from defsurvey.workers.engines.transformers.weights import find_description
from defsurvey.workers.models import ModelCard


def rendered(card: ModelCard, request: Request, cache: Path) -> tuple[str, int, Mapping[str, str]]:
    """The text that the model continues, its tokens, and facts of its configuration and tokenizer.

    Raises:
        EngineUnavailable: something is missing or cannot be read.
    """
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
            **found.origin,
            **(stored_as(found) if found.gguf is not None else {}),
            "architecture": ", ".join(config.architectures or ()) or config.model_type,
            "window": str(window),
            "vocabulary": str(len(tokenizer)),
            "ends": ", ".join(dict.fromkeys([*([tokenizer.eos_token] if tokenizer.eos_token else []), *ends])),
            "quantisation": card.quantisation,
            "chat_template": loading.told_of_template(card, tokenizer),
        }
    return prompt, tokens, facts
