"""A Table as HTML, in as few bytes as it takes: a report of 576 questions has a hundred thousand cells.

Every string is escaped, and its invisible characters are written out.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from markupsafe import Markup, escape

from defsurvey.reports.page import Column, Entry, Table, TableRow
from defsurvey.reports.untrusted import visible

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
    return "".join(_cells(row))


def _cells(row: TableRow) -> Iterable[str]:
    yield "<tr class=quiet>" if row.quiet else "<tr>"
    yield f"<th scope=row{_looks(row.head)}>{_content(row.head)}"
    for entry in row.entries:
        yield f"<td{_looks(entry)}>{_content(entry)}"


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
