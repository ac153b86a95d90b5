"""From a request's messages to the tokens that a model reads, and from a reply's tokens to its text.

A prompt is the same whenever it is rendered: a template that asks for today's date is told ``DATE``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from defsurvey.workers.engines.base import Request

#: What templates are told instead of today's date: the one that those of Llama 3.1 and 3.2 fall back on themselves.
DATE = date(2024, 7, 26)
_ASKED = "strftime_now"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_BEGUN = re.compile(r"(?:<think(?:ing)?>|\[THINK\])\s*$", re.IGNORECASE)
#: Marks that some tokenizers count among their special tokens, which no reply has otherwise.
_MARKS = ("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<|message|>")


@cache
def own_templates() -> Mapping[str, str]:
    """Chat templates in Jinja, by the name that a card uses: for models whose tokenizer has none that can be used."""
    folder = Path(__file__).with_name("templates")
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.jinja"))}


def render_prompt(
    tokenizer: Any, template: str, request: Request, *, answer_prefix: bool, options: Mapping[str, object] | None = None
) -> str:
    """The text that the model continues: the conversation, the reply's opening, and the reply's beginning if wanted.

    The same whenever it is asked for: a template that asks for today's date is told ``DATE``.

    Args:
        tokenizer: The model's tokenizer.
        template: ``tokenizer`` for its own, ``none`` for the messages' bare text, or a key of ``own_templates``.
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
    if template in own_templates() or template == "none" or not asks_for_date(str(tokenizer.chat_template)):
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

    own = own_templates().get(template)
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


def asks_for_date(chat_template: str) -> bool:
    """Whether a chat template may ask for today's date."""
    return _ASKED in chat_template


def dated(chat_template: str, day: date) -> str:
    """The chat template with a function of its own in place of the library's, which knows one day, at midnight.

    A function can be given in no other way: what is handed to the library beside a template it turns into plain text.
    It stands on a line of its own, since blanks that begin a line mean something; the library drops the line's end.
    """
    written = "".join(f".replace('%{directive}', '{text}')" for directive, text in _directives(day).items())
    return f"{{%- macro {_ASKED}(format) -%}}{{{{ format{written} }}}}{{%- endmacro %}}\n{chat_template}"


def _directives(day: date) -> dict[str, str]:
    """What ``strftime`` makes of each directive, in English whatever the machine's locale."""
    name, month = _DAYS[day.weekday()], _MONTHS[day.month - 1]
    figures = {directive: day.strftime(f"%{directive}") for directive in "YymdjHIMSUWwuVGfFT"}
    bare = {f"-{directive}": str(int(figures[directive])) for directive in "mdjHIMS"}
    words = {"A": name, "a": name[:3], "B": month, "b": month[:3], "h": month[:3], "p": "AM", "e": f"{day.day:2}"}
    return {**figures, **bare, **words, "%": "%"}


def thought_begun(prompt: str) -> str:
    """The mark at the end of a rendered prompt that begins a thought, for the model to go on with; else nothing."""
    begun = _BEGUN.search(prompt)
    return begun[0] if begun else ""


def special_marks(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokenizer's special tokens that stand around thoughts."""
    special = set(tokenizer.all_special_tokens)
    return frozenset(tokenizer.convert_tokens_to_ids([mark for mark in _MARKS if mark in special]))


def decode_reply(tokenizer: Any, tokens: Sequence[int], marks: frozenset[int]) -> str:
    """The text of a reply: without special tokens, but for the marks around thoughts."""
    if marks.isdisjoint(tokens):
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text
    parts = groupby(tokens, key=marks.__contains__)
    return "".join(tokenizer.decode(list(part), skip_special_tokens=not marked) for marked, part in parts)
