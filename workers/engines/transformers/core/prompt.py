"""From a request's messages to the tokens that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from defsurvey.workers.engines.base import Request
from defsurvey.workers.engines.transformers.core.dates import DATE, asks_for_date, dated
from defsurvey.workers.engines.transformers.core.templates import TEMPLATES as TEMPLATES


def render_prompt(
    tokenizer: Any, template: str, request: Request, *, answer_prefix: bool, options: Mapping[str, object] | None = None
) -> str:
    """The text that the model continues: the conversation, the reply's opening, and the reply's beginning if wanted.

    The same whenever it is asked for: a template that asks for today's date is told ``DATE``.

    Args:
        tokenizer: The model's tokenizer.
        template: ``tokenizer`` for its own template, ``none`` for the messages' bare text, or a key of ``TEMPLATES``.
        request: What is asked.
        answer_prefix: Whether the reply is begun with ``request.reply_start``.
        options: What else the template is told, such as ``enable_thinking``.

    Raises:
        ValueError: the tokenizer has no template, or the template refuses the messages.
    """
    beginning = request.reply_start if answer_prefix else ""
    if template == "none":
        return "\n\n".join(message.content for message in request.messages) + "\n" + beginning
    conversation = [{"role": message.role, "content": message.content} for message in request.messages]
    return _render(tokenizer, template, conversation, options) + beginning


def date_told(tokenizer: Any, template: str, options: Mapping[str, object] | None = None) -> date | None:
    """The date that prompts hold because their template asks for it; None where they hold none."""
    if template in TEMPLATES or template == "none" or not asks_for_date(str(tokenizer.chat_template)):
        return None
    asked = {"role": "user", "content": "?"}
    for conversation in ([asked], [{"role": "system", "content": "?"}, asked]):
        try:
            days = [_render(tokenizer, template, conversation, options, DATE + timedelta(days)) for days in (0, 400)]
        except ValueError:  # it takes no system message, or none without
            continue
        if days[0] != days[1]:
            return DATE
    return None


def _render(
    tokenizer: Any,
    template: str,
    conversation: Sequence[Mapping[str, str]],
    options: Mapping[str, object] | None,
    day: date = DATE,
) -> str:
    from jinja2 import TemplateError

    own = TEMPLATES.get(template)
    if own is None and tokenizer.chat_template is None:
        raise ValueError("the tokenizer has no chat template: the model card must name one in chat_template")
    if own is None and asks_for_date(str(tokenizer.chat_template)):
        own = dated(tokenizer.get_chat_template(), day)
    wanted: dict[str, Any] = {"chat_template": own, "tokenize": False, "add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template(conversation, **wanted, **(options or {})))
    except TemplateError as error:
        raise ValueError(f"chat template {template} refuses the messages: {error}") from error


def encode_prompt(tokenizer: Any, template: str, text: str) -> list[int]:
    """Token ids of a rendered prompt, special tokens at its beginning once.

    A tokenizer's own template writes them itself. Bare text and templates of ours get what the tokenizer adds to a
    text, unless the template has written it.
    """
    own = template == "tokenizer"
    ids: list[int] = tokenizer(text, add_special_tokens=not own)["input_ids"]
    added = 0 if own else tokenizer.num_special_tokens_to_add()
    return ids[added:] if added and ids[:added] == ids[added : 2 * added] else ids
