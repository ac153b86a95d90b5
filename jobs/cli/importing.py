"""The command line's verbs that make surveys: import, template, exclude."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defsurvey.jobs.cli.options import JSON, NAMES, PATH, TEXT, print_json

if TYPE_CHECKING:
    from defsurvey.storage.surveys.importers.imported import Imported

#: Taken while questions are excluded: of two at once each would write what it had read, and one be lost.
_LOCK = ".exclude.lock"
#: Seconds to wait for another that excludes questions, which takes it less than one.
_PATIENCE = 10.0


def _file(_ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """A file to be read, if it is there."""
    readable = path is None or (path.exists() and not path.is_dir() and os.access(path, os.R_OK))  # a pipe, too
    if path is not None and not readable:
        from defsurvey.storage.surveys.survey import SurveyError

        got = "a folder" if path.is_dir() else "one that may not be read" if path.exists() else "nothing"
        raise SurveyError(f"{path}: expected a file, got {got}")
    return path


_FILE = click.argument("source", type=PATH, callback=_file, metavar="FILE")
_OUTPUT = click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="The survey folder to make.")
_ID = click.option("--id", "survey_id", type=TEXT, metavar="ID", help="Id of the survey; the folder's name by default.")
_CULTURES = click.option(
    "--cultures",
    type=PATH,
    callback=_file,
    metavar="FILE",
    help="A table of further countries, see docs.",
)
_COUNTRIES = click.option(
    "--countries", type=NAMES, metavar="USA,CHN,...", help="Only these, by ISO code or name; all by default."
)
_RESPONDENTS = click.option(
    "--respondents",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="People assumed behind each distribution where the source has shares alone.",
)


def _write(read: Callable[[str], Imported], output: Path, survey_id: str | None, as_json: bool) -> None:
    """Import, write and tell."""
    name = survey_id or re.sub(r"[^A-Za-z0-9_.-]+", "-", output.absolute().name).lstrip("_.-") or "survey"
    from defsurvey.jobs.study.catalogue import survey_notes
    from defsurvey.jobs.system import written_to

    imported = read(name)
    with written_to("--output", output):
        survey = imported.write(output)
    notes = [*imported.notes, *survey_notes(survey)]
    cultures = [culture.code for culture in survey.cultures]
    if as_json:
        told: dict[str, Any] = {
            "folder": str(output),
            "id": survey.id,
            "fingerprint": survey.fingerprint,
            "questions": len(survey.questions),
            "cultures": cultures,
            "references": len(survey.references),
            "notes": notes,
            "matched": [asdict(match) for match in imported.matches],
        }
        print_json(told)
        return
    click.echo(f"{output}: {len(survey.questions)} questions, {len(survey.references)} reference distributions")
    click.echo(f"cultures: {', '.join(cultures)}")
    for note in notes:
        click.echo(f"- {note}")


@click.group("import")
def import_survey() -> None:
    """Make a survey folder from files you hold."""


@import_survey.command("wvs")
@_FILE
@_OUTPUT
@_COUNTRIES
@_ID
@_CULTURES
@JSON
def import_wvs(
    source: Path,
    output: Path,
    countries: tuple[str, ...] | None,
    survey_id: str | None,
    cultures: Path | None,
    as_json: bool,
) -> None:
    """An official CSV file of the World Values Survey, wave 7."""
    from defsurvey.storage.surveys.importers.wvs import import_wvs as read

    def survey(name: str) -> Imported:
        return read(source, id=name, countries=countries or (), cultures=cultures)

    _write(survey, output, survey_id, as_json)


@import_survey.command("def")
@click.argument("source", type=PATH, metavar="DIR")
@_OUTPUT
@click.option("--part", type=TEXT, metavar="NAME", help="Only this part, such as US_survey.")
@click.option("--multiple", type=NAMES, metavar="7,8,...", help="Questions that allow several answers.")
@_RESPONDENTS
@_ID
@_CULTURES
@JSON
def import_def(
    source: Path,
    output: Path,
    part: str | None,
    multiple: tuple[str, ...] | None,
    respondents: int,
    survey_id: str | None,
    cultures: Path | None,
    as_json: bool,
) -> None:
    """The dataset of Liu et al. (2025) as its authors lay it out."""
    from defsurvey.storage.surveys.importers.def_dataset import import_def as read

    numbers = multiple or ()
    if not all(number.isdecimal() for number in numbers):
        got = ",".join(numbers)
        raise click.BadParameter(f"expected numbers of questions, such as 7,8, got {got!r}", param_hint="--multiple")

    def survey(name: str) -> Imported:
        lists = [int(number) for number in numbers]
        return read(source, id=name, part=part, multiple=lists, respondents=respondents, cultures=cultures)

    _write(survey, output, survey_id, as_json)


@import_survey.command("globalopinions")
@_FILE
@_OUTPUT
@_COUNTRIES
@_RESPONDENTS
@_ID
@_CULTURES
@JSON
def import_globalopinions(
    source: Path,
    output: Path,
    countries: tuple[str, ...] | None,
    respondents: int,
    survey_id: str | None,
    cultures: Path | None,
    as_json: bool,
) -> None:
    """GlobalOpinionQA's CSV file."""
    from defsurvey.storage.surveys.importers.globalopinions import import_globalopinions as read

    def survey(name: str) -> Imported:
        return read(source, id=name, countries=countries or (), respondents=respondents, cultures=cultures)

    _write(survey, output, survey_id, as_json)


@import_survey.command("table")
@_FILE
@_OUTPUT
@click.option("--title", type=TEXT, help="Of the survey, as reports print it.")
@click.option("--citation", type=TEXT, help="Whom to cite.")
@click.option("--terms", type=TEXT, help="On which the figures may be used.")
@_ID
@_CULTURES
@JSON
def import_table(
    source: Path,
    output: Path,
    title: str | None,
    citation: str | None,
    terms: str | None,
    survey_id: str | None,
    cultures: Path | None,
    as_json: bool,
) -> None:
    """Any survey as a table with a row per option; `survey template` writes an example."""
    from defsurvey.storage.surveys.importers.table import import_table as read

    def survey(name: str) -> Imported:
        return read(source, id=name, title=title, citation=citation, terms=terms, cultures=cultures)

    _write(survey, output, survey_id, as_json)


@click.command("template")
@click.argument("path", type=PATH, metavar="FILE")
def template(path: Path) -> None:
    """Write an example of a table that `survey import table` reads."""
    from defsurvey.jobs.system import written_to
    from defsurvey.storage.surveys.importers.table import write_template

    with written_to("FILE", path):
        write_template(path)
    click.echo(f"{path}: edit it, then: defsurvey survey import table {path} -o DIR")


@click.command("exclude")
@click.argument("folder", type=PATH, metavar="DIR")
@click.argument("questions", type=TEXT, nargs=-1, metavar="[QUESTION]...")
@click.option("--reason", type=TEXT, help="Why; kept in the survey.")
@click.option("--restore", type=NAMES, metavar="Q1,Q2", help="Questions to take in again.")
@JSON
def exclude(
    folder: Path, questions: tuple[str, ...], reason: str | None, restore: tuple[str, ...] | None, as_json: bool
) -> None:
    """Leave questions of a survey out, with the reason; without a question, list those left out."""
    from defsurvey.jobs.system import exclusive
    from defsurvey.storage.surveys.folder import FILES
    from defsurvey.storage.surveys.write import exclude_questions

    if questions and not reason:
        raise click.UsageError("expected --reason TEXT: why are the questions excluded?")
    if reason and not questions:
        raise click.UsageError("expected questions, got --reason alone: which are excluded for it?")
    changed = (questions or restore) and (folder / FILES[0]).is_file()
    what = "defsurvey survey exclude"
    with exclusive(folder / _LOCK, what, patience=_PATIENCE) if changed else nullcontext():
        survey = exclude_questions(folder, dict.fromkeys(questions, reason or ""), restore=restore or ())
    if as_json:
        print_json(dict(survey.excluded))
        return
    for name, why in survey.excluded.items():
        click.echo(f"{name}  {why}")
    click.echo(f"{len(survey.excluded)} excluded, {len(survey.questions)} left")


VERBS = (import_survey, template, exclude)
