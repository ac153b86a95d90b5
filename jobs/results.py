"""What came out of runs: a run's current report, a report of several, answers and metrics as data, a run as a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING

from defsurvey.jobs.daemons.reports import write_report
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.files import path_under
from defsurvey.storage.runs import archive, outbox, store
from defsurvey.storage.runs.archive import BadBundle
from defsurvey.storage.runs.outbox import BuiltReport
from defsurvey.storage.runs.results import read_draws, read_results
from defsurvey.storage.runs.run import Run
from defsurvey.storage.runs.verdicts import read_judgements
from defsurvey.storage.surveys.problem import nearest, one_of
from defsurvey.storage.text import in_one_line
from defsurvey.workers.simulation.methods import METHODS

if TYPE_CHECKING:
    from defsurvey.reports.build import ReportPaths

_LONGEST_NAME = 200  #: longest name of a folder that tells all the runs in it, in bytes; most file systems take 255


def current_report(
    settings: Settings, database: Database, run: str, output: Path | None, *, readings: bool = False
) -> BuiltReport:
    """A run's report, built anew if the ledger moved on; one by ``output`` or ``readings`` is not the run's own."""
    store.design_of(database, run)
    if readings or output is not None:
        folder = output or path_under(settings.reports, run, "with-readings")
        return write_report(database, run, folder, record=False, readings=readings)
    built = outbox.latest_report(database, run)
    if built is not None and outbox.is_current(database, built) and Path(built.html).is_file():
        return built
    return write_report(database, run, path_under(settings.reports, run))


def export(
    database: Database, run: str, kind: str, target: IO[bytes], *, of: str = "answers", telemetry: bool = False
) -> None:
    """Write a run's ``answers``, ``metrics`` or ``probabilities``, a row each, as ``csv``, ``jsonl`` or ``parquet``."""
    store.design_of(database, run)
    from defsurvey.reports.export import WRITERS
    from defsurvey.storage.runs.export import COLUMNS, PROBABILITIES, TELEMETRY, answer_rows, probability_rows

    write = WRITERS[kind]
    if of == "metrics":
        from defsurvey.reports.analysis import analyse
        from defsurvey.reports.figures.judging import judged_by
        from defsurvey.reports.measures import MEASURES, measure_rows

        verdicts, notes = judged_by(read_judgements(database, run))
        analysis = analyse(read_results(database, run), draws=read_draws(database, run), verdicts=verdicts, notes=notes)
        write(measure_rows(analysis), MEASURES, target)
    elif of == "probabilities":
        write(probability_rows(database, run), PROBABILITIES, target)
    else:
        write(answer_rows(database, run, telemetry=telemetry), COLUMNS | TELEMETRY if telemetry else COLUMNS, target)


def import_bundle(database: Database, path: Path) -> str:
    """Read a run from a file. Returns its id; nothing is written of a run with a method that is not known here."""

    def check(run: Run) -> None:
        for condition in (cell.condition for cell in run.cells):
            if condition.method not in METHODS:
                known = f"expected a method of {one_of(METHODS)}{nearest(condition.method, METHODS)}"
                name, got = in_one_line(condition.name), in_one_line(condition.method)
                raise BadBundle(f"{path}: condition {name}: {known}, got {got}")

    return archive.import_bundle(database, path, check=check)


def joint_report(settings: Settings, database: Database, runs: Sequence[str], output: Path | None) -> ReportPaths:
    """One report of several runs, in that order, built anew each time; raises ``reports.merge.CannotMerge``."""
    from defsurvey.reports.build import build_report
    from defsurvey.reports.figures.judging import judged_by
    from defsurvey.reports.merge import differences, merge, merge_draws, merge_judgements

    results = [read_results(database, run) for run in runs]
    verdicts, notes = judged_by(merge_judgements(results, [read_judgements(database, run) for run in runs]))
    return build_report(
        merge(results),
        output or joint_folder(settings, runs),
        draws=merge_draws(results, [read_draws(database, run) for run in runs]),
        remarks=tuple(f"The runs differ in {difference}." for difference in differences(results)),
        verdicts=verdicts,
        notes=notes,
    )


def joint_folder(settings: Settings, runs: Sequence[str]) -> Path:
    """Where a report of several runs lies: named after them all or, where that is too long, the first and a hash."""
    name = "+".join(runs)
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{runs[0]}+{len(runs) - 1}-{sha256(name.encode()).hexdigest()[:12]}"
    return path_under(settings.reports, name)
