"""A Page as Markdown, every string escaped: neither a model nor a survey can put a link, a heading or HTML into it."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from defsurvey.reports.page import Column, Entry, Page, Table
from defsurvey.reports.untrusted import markdown_block, markdown_text, template_engine


def _block(text: str) -> Markup:
    return Markup(markdown_block(text))  # noqa: S704 - Markdown, made safe by markdown_block


def _entry(entry: Entry) -> str:
    beneath = f" ({markdown_text(entry.beneath)})" if entry.beneath else ""
    return markdown_text(entry.text) + beneath


def _table(table: Table) -> Markup:
    """Rows of a table; what stands beneath a figure follows it in brackets, a group is a column of its own."""
    columns = table.columns
    if table.grouped_by:
        columns = (columns[0], Column(text=table.grouped_by, words=True), *columns[1:])
    head = _row(markdown_text(column.text) for column in columns)
    rule = _row("---" if column.words else "---:" for column in columns)
    rows = [
        _row([_entry(row.head), *([markdown_text(row.group)] if table.grouped_by else []), *map(_entry, row.entries)])
        for row in table.rows
    ]
    return Markup("\n".join([head, rule, *rows]))  # noqa: S704 - every part is escaped above


def _row(parts: Iterable[str]) -> str:
    return f"| {' | '.join(parts)} |"


def render_markdown(page: Page) -> str:
    """The report as Markdown."""
    # HTML escapes would be seen in Markdown; what a part of the template has put out is escaped already: done
    engine = template_engine(markdown_text, autoescape=False)
    engine.filters |= {"block": _block, "table": _table, "done": Markup}
    return engine.get_template("report.md").render(page=page).rstrip() + "\n"
