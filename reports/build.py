"""Writes a run's report: both files whole, or the old ones untouched.

Knows files. Deliberately knows nothing of what a report says.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reports.analysis import analyse
from reports.contents import page
from reports.html import render_html
from reports.markdown import render_markdown
from storage.results import Results

#: What others may do with a finished report: read it.
_MODE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Where a report lies."""

    html: Path
    markdown: Path


def build_report(results: Results, folder: Path) -> ReportPaths:
    """Analyse a run and write ``report.html`` and ``report.md`` into a folder, which is made if it is not there.

    The same results give the same bytes. Each file is replaced in one step: whoever reads it meanwhile sees the old
    one or the new one, and a failure leaves no half-written file.

    Raises:
        UnknownName: the run names a question or culture that its survey lacks.
        OSError: the folder cannot be written to.
    """
    whole = page(analyse(results))
    texts = {"report.html": render_html(whole), "report.md": render_markdown(whole)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _write(folder / name, text)
    return ReportPaths(html=folder / "report.html", markdown=folder / "report.md")


def _write(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(_MODE)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _settle(path.parent)


def _settle(folder: Path) -> None:
    """Make the new name survive a loss of power, where the platform can do that for a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
