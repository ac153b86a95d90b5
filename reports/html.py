"""A Page as one HTML file that loads nothing.

Every string is escaped by the template engine, and its invisible characters are written out; only charts, which
``reports.charts`` drew, tables, which ``reports.html_table`` wrote, the style sheet and the one script pass as they
are; the page's policy allows that script by its hash and no other.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from defsurvey.reports.charts.drawing import SERIES, SHAPES, look
from defsurvey.reports.html_table import table_html
from defsurvey.reports.page import Page
from defsurvey.reports.untrusted import html_text, visible


def _seen(value: object) -> object:
    """Write out what cannot be seen, of every string that is put into the page."""
    return visible(value) if type(value) is str else value


def _drawing(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704 - drawn by reports.charts, its texts escaped there


def _look(place: int) -> str:
    """The style sheet's classes of a series' colour and shape."""
    colour, shape = look(place)
    return f"c{SERIES.index(colour) + 1} m{SHAPES.index(shape) + 1}"


def environment() -> Environment:
    """The template engine: escapes everything, and an unknown name is an error."""
    found = Environment(
        loader=PackageLoader("defsurvey.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    found.filters |= {"completion": html_text, "drawing": _drawing, "look": _look, "table": table_html}
    return found


def render_html(page: Page) -> str:
    """The report as HTML."""
    engine = environment()
    script = _shipped(engine, "report.js")
    return engine.get_template("report.html").render(
        page=page, style=_shipped(engine, "report.css"), script=script, script_hash=policy_hash(script)
    )


def policy_hash(script: str) -> str:
    """How a content security policy names a script: the text between its tags, line breaks included."""
    return b64encode(sha256(f"\n{script}\n".encode()).digest()).decode("ascii")


def _shipped(engine: Environment, name: str) -> Markup:
    loader = engine.loader
    assert loader is not None
    return Markup(loader.get_source(engine, name)[0].rstrip("\n"))  # noqa: S704 - ships with this module
