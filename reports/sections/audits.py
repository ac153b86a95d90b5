"""How far a judge agrees with itself and with people: the tables beside Figures 9 and 19."""

from __future__ import annotations

from defsurvey.reports.figures.judging import Judged
from defsurvey.reports.figures.words import chance
from defsurvey.reports.metrics.insensitivity import NAMES, Audit
from defsurvey.reports.number_format import NONE, fixed, percent
from defsurvey.reports.page import Column, Entry, Table, TableRow


def audit_tables(judged: Judged, number: int) -> tuple[Table, ...]:
    """One table of a judge's audits; none where it was never audited."""
    if not judged.audits:
        return ()
    return (
        Table(
            anchor=f"figure-9-audit-{number}",
            caption=f"{judged.judge} against itself and against people",
            grouped_by="Beside",
            columns=(
                Column(text="Dimension", words=True),
                Column(text="Verdicts", meaning="given by both"),
                Column(text="Alike", meaning="share of equal verdicts"),
                Column(text="Kappa", meaning="Cohen's: 0 as by chance, 1 always alike"),
                Column(text="AC1", meaning="Gwet's; it does not sink where nearly all verdicts are alike"),
                Column(text="Fails", meaning="by the judge alone : by the other alone"),
                Column(text="p", meaning="McNemar, exact: is one of them stricter?"),
            ),
            rows=tuple(_row(audit) for audit in judged.audits),
        ),
    )


def _row(audit: Audit) -> TableRow:
    found, stricter = audit.agreement, audit.stricter
    return TableRow(
        head=Entry(text=NAMES.get(audit.dimension, "all dimensions")),
        group=audit.other or "itself, asked again",
        entries=(
            Entry(text=f"{found.n:,}"),
            Entry(text=percent(found.observed) if found.n else NONE, why=found.reason),
            Entry(text=fixed(found.kappa, 2).replace("-", "−"), why=found.reason),
            Entry(text=fixed(found.ac1, 2).replace("-", "−"), why=found.reason),
            Entry(text=f"{stricter.first_only} : {stricter.second_only}"),
            Entry(text=chance(stricter.exact_p)),
        ),
    )
