"""Text that others wrote, made harmless and its invisible characters visible.

Knows characters. Model output, names in a study and survey texts all pass through here, once for
HTML and once for Markdown. Deliberately knows nothing of where they are shown.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

#: Longest text shown of one completion, in characters.
SHOWN = 1_200

_KEPT = "\n\t"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~$&@]|(?<=www)\.|:(?=//)|^[-+=]|^\s*\d+(?=[.)](?:\s|$))")


def name_character(character: str) -> str:
    """How an invisible character is written: by its number, for which every font has the signs.

    >>> name_character(chr(0)), name_character(chr(0x202E))
    ('U+0000', 'U+202E')
    """
    return f"U+{ord(character):04X}"


def _hidden(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character) in _HIDDEN


def visible(text: str) -> str:
    """The text with every control, format, surrogate and unassigned character written out.

    >>> visible("a" + chr(0) + chr(0x202E) + "b")
    'a⟨U+0000⟩⟨U+202E⟩b'
    """
    if text.isascii() and text.isprintable():
        return text
    plain = text.replace("\r\n", "\n")
    return "".join(f"⟨{name_character(character)}⟩" if _hidden(character) else character for character in plain)


def cut(text: str, length: int = SHOWN) -> tuple[str, int]:
    """The beginning of a text, and how many characters were left out.

    >>> cut("abcdef", 4)
    ('abcd', 2)
    """
    return text[:length], max(0, len(text) - length)


def html_text(text: str) -> Markup:
    """Escaped for HTML, invisible characters as marked chips.

    >>> str(html_text("<b>" + chr(0)))
    '&lt;b&gt;<span class="control">U+0000</span>'
    """
    plain = text.replace("\r\n", "\n")
    return Markup("").join(
        Markup('<span class="control">{}</span>').format(name_character(character))
        if _hidden(character)
        else escape(character)
        for character in plain
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
