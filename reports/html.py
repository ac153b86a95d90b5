"""A Page as one HTML file that loads nothing.

Knows HTML. Every string is escaped by the template engine, and its invisible characters are written out; only
charts, which ``reports.charts`` drew, and the style sheet pass as they are. Deliberately decides nothing of what is
shown.
"""

from __future__ import annotations

from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.page import Page, TableRow
from reports.untrusted import html_text, visible


def _seen(value: object) -> object:
    """Write out what cannot be seen, of every string that is put into the page."""
    return visible(value) if type(value) is str else value


def _grouped(rows: tuple[TableRow, ...]) -> list[tuple[str, list[TableRow]]]:
    """Rows that follow each other in one group, in their order (the engine's own ``groupby`` sorts)."""
    return [(name, list(members)) for name, members in groupby(rows, key=lambda row: row.group)]


def _drawing(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704 - drawn by reports.charts, its texts escaped there


def environment() -> Environment:
    """The template engine: escapes everything, and an unknown name is an error."""
    found = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    found.filters |= {"completion": html_text, "groupby_order": _grouped, "drawing": _drawing}
    return found


def render_html(page: Page) -> str:
    """The report as HTML."""
    engine = environment()
    loader = engine.loader
    assert loader is not None
    style = loader.get_source(engine, "report.css")[0]
    trusted = Markup(style)  # noqa: S704 - ships with this module
    return engine.get_template("report.html").render(page=page, style=trusted)
