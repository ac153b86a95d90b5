"""Text that models, studies and surveys wrote, harmless in HTML and Markdown, its invisible characters visible."""

from __future__ import annotations

import re
from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from defsurvey.storage.text import characters, name_character
from defsurvey.storage.text import visible as visible

#: Longest text shown of one completion, in characters.
SHOWN = 1_200

_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~$&@]|(?<=www)\.|:(?=//)|^[-+=]|^\s*\d+(?=[.)](?:\s|$))")


def template_engine(escaped: Callable[[str], str], *, autoescape: bool = True) -> Environment:
    """The engine of the templates: every string is put out ``escaped``, and an unknown name is an error."""
    return Environment(
        loader=PackageLoader("defsurvey.reports"),
        autoescape=autoescape,  # noqa: S701 - off for Markdown alone, which has escapes of its own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escaped(value) if type(value) is str else value,
    )


def cut(text: str, length: int = SHOWN) -> tuple[str, int]:
    """The beginning of a text, and how many characters were left out."""
    return text[:length], max(0, len(text) - length)


def html_text(text: str) -> Markup:
    """Escaped for HTML, invisible characters as marked chips.

    >>> str(html_text("<b>" + chr(0)))
    '&lt;b&gt;<span class="control">U+0000</span>'
    """
    return Markup("").join(
        Markup('<span class="control">{}</span>').format(name_character(character)) if hidden else escape(character)
        for character, hidden in characters(text)
    )


def markdown_text(text: str) -> str:
    """Escaped for a line or a table cell of Markdown; line breaks become a visible sign.

    Only what means something is escaped: a sign that begins a list matters at the beginning alone, and
    a colon only where it would make an address.

    >>> markdown_text("a|b`c`" + chr(10) + "<i>")
    'a\\\\|b\\\\`c\\\\` ⏎ \\\\<i\\\\>'
    >>> markdown_text("1. see http://x.y (at 3.5)")
    '1\\\\. see http\\\\://x.y (at 3.5)'
    """
    if text.isascii() and text.isalnum():
        return text  # most of a report's cells
    line = re.sub(r"[\t ]*\n[\t ]*", " ⏎ ", visible(text)).replace("\t", " ")
    return _MARKDOWN.sub(_escaped, line)


def _escaped(match: re.Match[str]) -> str:
    # a number that would begin a list is written before an escaped full stop
    return f"{match[0]}\\" if match[0][-1:].isdigit() else f"\\{match[0]}"


def markdown_block(text: str) -> str:
    """A fenced block that its content cannot close.

    >>> print(markdown_block("```" + chr(10) + "x"))
    ````text
    ```
    x
    ````
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{visible(text)}\n{fence}"
