"""Builds a run's report from what the ledger holds, one process at a time."""

from __future__ import annotations

import math
from pathlib import Path

from defsurvey.jobs.system import exclusive
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox
from defsurvey.storage.runs.results import read_draws, read_results
from defsurvey.storage.runs.verdicts import ReadBy, read_by, read_judgements, with_readings


def write_report(
    database: Database,
    run: str,
    folder: Path,
    *,
    record: bool = True,
    readings: bool = False,
    patience: float = math.inf,
) -> outbox.BuiltReport:
    """Build a run's report from what the ledger holds now; with ``readings``, answers count as people have read them.

    The run's own report, which the ledger is to ``record``, is built by one process at a time (HomeInUse where another
    still builds it after ``patience`` seconds), and again where another machine, which the lock does not reach, has
    noted a newer one meanwhile: its files may lie in the same place.
    """
    if not record:
        return _build(database, run, folder, readings=readings)
    with exclusive(folder / ".lock", "report", patience=patience, needed=False):
        while True:
            report = _build(database, run, folder, readings=readings)
            outbox.record_report(database, report)
            newest = outbox.latest_report(database, run) or report
            if (newest.revision, newest.judgements) <= (report.revision, report.judgements):
                database.checkpoint()  # a run's end: from here on the file is whole without its log
                return report


def _build(database: Database, run: str, folder: Path, *, readings: bool) -> outbox.BuiltReport:
    from defsurvey.reports.build import build_report
    from defsurvey.reports.figures.judging import judged_by

    judged = read_judgements(database, run)
    verdicts, notes = judged_by(judged)
    results = read_results(database, run)
    remarks = reading_remarks(read_by(database, run), run, counted=readings)
    shown = with_readings(database, results) if readings else results
    draws = read_draws(database, run)
    paths = build_report(shown, folder, draws=draws, verdicts=verdicts, notes=notes, remarks=remarks)
    shows = {"revision": results.revision, "judgements": judged.revision}
    return outbox.BuiltReport(run=run, **shows, html=str(paths.html), markdown=str(paths.markdown))


def warm() -> None:
    """Load what a report is built with, so that the first one need not wait for it."""
    import defsurvey.reports.build  # noqa: F401  # loaded, not used
    from defsurvey.reports.charts import drawing

    drawing.warm()


def reading_remarks(read: ReadBy, run: str, *, counted: bool) -> tuple[str, ...]:
    """What a report says of answers that people have read."""
    if not read.answers + read.disputed:
        return ()
    which = "counted as they read them" if counted else f"left out; defsurvey report {run} --readings"
    who = ", ".join(read.readers)
    remark = f"{read.answers} answers that the program could not read were read by people ({who}) and are {which}"
    disputed = f" {read.disputed} more were read differently and stay unparsable." if read.disputed else ""
    return (f"{remark}.{disputed}",)
