"""A Page as one HTML file that loads nothing.

Every string is escaped by the template engine, and its invisible characters are written out; only charts, tables, the
style sheet and the one script pass as they are. The page's policy allows that script by its hash and no other.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from itertools import groupby

from jinja2 import Environment
from markupsafe import Markup, escape

from defsurvey.reports.charts.drawing import SERIES, SHAPES, look
from defsurvey.reports.page import Column, Entry, Page, Table, TableRow
from defsurvey.reports.untrusted import html_text, template_engine, visible


def _look(place: int) -> str:
    """The style sheet's classes of a series' colour and shape."""
    colour, shape = look(place)
    return f"c{SERIES.index(colour) + 1} m{SHAPES.index(shape) + 1}"


def render_html(page: Page) -> str:
    """The report as HTML."""
    engine = template_engine(visible)
    # a drawing is of reports.charts, its texts escaped there
    engine.filters |= {"completion": html_text, "drawing": Markup, "look": _look, "table": table_html}
    style, script = (_shipped(engine, name) for name in ("report.css", "report.js"))
    # how a content security policy names a script: the text between its tags, line breaks included
    digest = b64encode(sha256(f"\n{script}\n".encode()).digest()).decode("ascii")
    return engine.get_template("report.html").render(page=page, style=style, script=script, script_hash=digest)


def _shipped(engine: Environment, name: str) -> Markup:
    assert engine.loader is not None
    return Markup(engine.loader.get_source(engine, name)[0].rstrip("\n"))  # noqa: S704 - ships with this module


#: Steps of a shade: the style sheet has a class for each.
SHADES = 20


def table_html(table: Table) -> Markup:
    """The table with its caption and notes, within a box that scrolls sideways."""
    caption = _text(table.caption)
    parts = [
        f'<div class="tabled"><div class="wide" role="region" aria-label="{caption}" tabindex="0">',
        f'<table id="{_text(table.anchor)}"><caption><span>{caption}</span></caption><thead><tr>',
        *(_column(column) for column in table.columns),
        "</thead>",
    ]
    for group, rows in groupby(table.rows, key=lambda row: row.group):
        parts.append("<tbody>")
        if group:
            parts.append(f"<tr class=group><th scope=rowgroup colspan={len(table.columns)}><span>{_text(group)}</span>")
        parts += [_row(row) for row in rows]
        parts.append("</tbody>")
    parts.append("</table></div>")
    parts += [f'<p class="note">{_text(note)}</p>' for note in table.notes]
    parts.append("</div>\n")
    return Markup("".join(parts))  # noqa: S704 - every string is escaped by _text


def _text(text: str) -> str:
    return str(escape(visible(text)))


def _column(column: Column) -> str:
    text = _text(column.text)
    head = f'<abbr title="{_text(column.meaning)}">{text}</abbr>' if column.meaning else text
    return f"<th scope=col{'' if column.words else ' class=figure'}>{head}"


def _row(row: TableRow) -> str:
    parts = ["<tr class=quiet>" if row.quiet else "<tr>", f"<th scope=row{_looks(row.head)}>{_content(row.head)}"]
    parts += [f"<td{_looks(entry)}>{_content(entry)}" for entry in row.entries]
    return "".join(parts)


def _looks(entry: Entry) -> str:
    looks = ""
    if entry.shade is not None:
        looks = f" class=s{round(min(max(entry.shade, 0.0), 1.0) * SHADES)}"
    elif entry.bar is not None:
        looks = f' style="--bar:{entry.bar:.3f}"'
    elif entry.words:
        looks = " class=words"
    if entry.lang:
        looks += f' lang="{_text(entry.lang)}"'
    if entry.why:
        looks += f' title="{_text(entry.why)}"'
    return looks


def _content(entry: Entry) -> str:
    text = entry.text if entry.text.isalnum() and entry.text.isascii() else _text(entry.text)
    return f"{text}<small>{_text(entry.beneath)}</small>" if entry.beneath else text
