"""Writes a run's report and the data behind it: each file whole, or the old one untouched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.export import write_csv
from defsurvey.reports.figures.provenance import ANSWERS, METRICS
from defsurvey.reports.html import render_html
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.measures import ANSWERS as ANSWER_COLUMNS
from defsurvey.reports.measures import MEASURES, answer_rows, measure_rows
from defsurvey.reports.metrics.judges import JudgeNotes, Verdicts
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs.results import DrawArrays, Results


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Where a report lies; its tables are beside it."""

    html: Path
    markdown: Path


def build_report(
    results: Results,
    folder: Path,
    *,
    draws: DrawArrays | None = None,
    verdicts: Sequence[Verdicts] = (),
    notes: JudgeNotes | None = None,
    remarks: Sequence[str] = (),
) -> ReportPaths:
    """Analyse a run and write ``report.html``, ``report.md``, ``metrics.csv`` and ``answers.csv`` into a folder.

    The same results give the same bytes, and each file is replaced in one step. ``remarks`` are further sentences that
    a reader must know before citing it; for the rest see :func:`analyse`.
    """
    analysis = analyse(results, draws=draws, verdicts=verdicts, notes=notes)
    whole = page(analysis, remarks=remarks)
    html, markdown = render_html(whole).encode(), render_markdown(whole).encode()
    contents: dict[str, Callable[[IO[bytes]], object]] = {
        "report.html": lambda file: file.write(html),
        "report.md": lambda file: file.write(markdown),
        METRICS: lambda file: write_csv(measure_rows(analysis), MEASURES, file),
        ANSWERS: lambda file: write_csv(answer_rows(results), ANSWER_COLUMNS, file),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in contents.items():
        write_whole(folder / name, write)
    return ReportPaths(html=folder / "report.html", markdown=folder / "report.md")
