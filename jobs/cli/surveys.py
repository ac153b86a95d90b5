"""Verbs about surveys: list, show and validate; import, template and copy; exclude and rephrase."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import click

from defsurvey.jobs.cli import options
from defsurvey.jobs.cli.options import DEVICE, JSON, PATH, console, counting, listing, print_result, text
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import INCOMPLETE, USAGE, written_to

if TYPE_CHECKING:
    from defsurvey.storage.surveys.importers.imported import Imported


def _file(_ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """A file to be read, if it is there."""
    readable = path is None or (path.exists() and not path.is_dir() and os.access(path, os.R_OK))  # a pipe, too
    if path is not None and not readable:
        from defsurvey.storage.surveys.problem import SurveyError

        got = "a folder" if path.is_dir() else "one that may not be read" if path.exists() else "nothing"
        raise SurveyError(f"{path}: expected a file, got {got}")
    return path


_FOLDER = click.argument("folder", type=PATH, metavar="DIR")
_OUTPUT = click.option("-o", "--output", type=PATH, required=True, metavar="DIR", help="The survey folder to make.")


@click.group()
def survey() -> None:
    """Surveys: list, show, validate, import, template, copy, exclude, rephrase."""


@survey.command("list")
@JSON
def survey_list(as_json: bool) -> None:
    """The bundled surveys."""
    from defsurvey.jobs.study import catalogue

    found = catalogue.surveys()
    lines = (f"{s['id']}  {s['title']} ({s['questions']} questions; {', '.join(s['cultures'])})" for s in found)
    print_result(found, lines, as_json=as_json)


@survey.command("show")
@click.argument("name", metavar="SURVEY")
@click.option("--question", type=text, metavar="Q", help="One question with its options and what people answered.")
@click.option("--topics", is_flag=True, help="How many questions each topic has.")
@click.option("--dimensions", is_flag=True, help="How many items each value dimension has.")
@JSON
def survey_show(name: str, question: str | None, topics: bool, dimensions: bool, as_json: bool) -> None:
    """A survey's questions, one of them with its reference distributions, or how they spread over topics."""
    from defsurvey.jobs.study import catalogue

    if (topics or dimensions) and question is not None:
        raise click.UsageError("--question shows one question; --topics and --dimensions count them all")
    if topics or dimensions:
        shown, render = catalogue.spread(name, topics=topics, dimensions=dimensions), catalogue.render_spread
    else:
        shown, render = catalogue.show_survey(name, question), catalogue.render_survey
    options.print_rendered(shown, lambda: render(shown), as_json=as_json)


@survey.command("validate")
@_FOLDER
def survey_validate(folder: Path) -> None:
    """Check a survey folder and name everything that is wrong with it, and what cannot be asked or read as it is."""
    from defsurvey.jobs.study.catalogue import validation_notes
    from defsurvey.storage.surveys.folder import check_survey, read_survey

    problems = check_survey(folder)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        sys.exit(USAGE)
    click.echo(f"{folder} is a valid survey")
    for note in validation_notes(read_survey(folder)):
        click.echo(f"- {note}")


@survey.group("import")
def survey_import() -> None:
    """Make a survey folder from files you hold."""


_FILE = click.argument("source", type=PATH, callback=_file, metavar="FILE")
_CULTURES = click.option(
    "--cultures", type=PATH, callback=_file, metavar="FILE", help="A table of further countries, see docs."
)
_ID = click.option("--id", "survey_id", type=text, metavar="ID", help="Id of the survey; the folder's name by default.")
_COUNTRIES = listing("--countries", metavar="USA,CHN,...", help="Only these, by ISO code or name; all by default.")
_RESPONDENTS = counting(
    "--respondents", default=1000, help="People assumed behind each distribution where the source has shares alone."
)


def _importer(name: str, reads: str, function: str, file: options.Parameter, *taken: options.Parameter) -> None:
    """Make a verb ``survey import NAME`` of an importer (module:function), which takes these options by name."""

    def verb(source: Path, output: Path, survey_id: str | None, as_json: bool, **given: Any) -> None:
        from defsurvey.jobs.study.catalogue import survey_notes

        named = survey_id or re.sub(r"[^A-Za-z0-9_.-]+", "-", output.absolute().name).lstrip("_.-") or "survey"
        importer = resolve_name(f"defsurvey.storage.surveys.importers.{function}")
        imported: Imported = importer(source, id=named, **given)
        with written_to("--output", output):
            made = imported.write(output)
        notes = [*imported.notes, *survey_notes(made)]
        cultures = [culture.code for culture in made.cultures]
        body = {
            "folder": str(output),
            "id": made.id,
            "fingerprint": made.fingerprint,
            "questions": len(made.questions),
            "cultures": cultures,
            "references": len(made.references),
            "notes": notes,
            "matched": [asdict(match) for match in imported.matches],
        }
        counts = f"{len(made.questions)} questions, {len(made.references)} reference distributions"
        lines = [f"{output}: {counts}", f"cultures: {', '.join(cultures)}", *(f"- {note}" for note in notes)]
        print_result(body, lines, as_json=as_json)

    verb.__doc__ = reads
    survey_import.command(name)(options.taking(file, _OUTPUT, *taken, _ID, _CULTURES, JSON)(verb))


def _numbers(_ctx: click.Context, _parameter: click.Parameter, typed: tuple[str, ...]) -> list[int]:
    if not all(number.isdecimal() for number in typed):
        got = ",".join(typed)
        raise click.BadParameter(f"expected numbers of questions, such as 7,8, got {got!r}", param_hint="--multiple")
    return [int(number) for number in typed]


_importer("wvs", "An official CSV file of the World Values Survey, wave 7.", "wvs:import_wvs", _FILE, _COUNTRIES)
_importer(
    "def",
    "The dataset of Liu et al. (2025) as its authors lay it out.",
    "def_dataset:import_def",
    click.argument("source", type=PATH, metavar="DIR"),
    click.option("--part", type=text, metavar="NAME", help="Only this part, such as US_survey."),
    listing("--multiple", callback=_numbers, metavar="7,8,...", help="Questions that allow several answers."),
    _RESPONDENTS,
)
_importer(
    "globalopinions",
    "GlobalOpinionQA's CSV file.",
    "globalopinions:import_globalopinions",
    _FILE,
    _COUNTRIES,
    _RESPONDENTS,
)
_importer(
    "table",
    "Any survey as a table with a row per option; `survey template` writes an example.",
    "table:import_table",
    _FILE,
    click.option("--title", type=text, help="Of the survey, as reports print it."),
    click.option("--citation", type=text, help="Whom to cite."),
    click.option("--terms", type=text, help="On which the figures may be used."),
)


@survey.command("template")
@click.argument("path", type=PATH, metavar="FILE")
def survey_template(path: Path) -> None:
    """Write an example of a table that `survey import table` reads."""
    from defsurvey.storage.surveys.importers.table import write_template

    with written_to("FILE", path):
        write_template(path)
    click.echo(f"{path}: edit it, then: defsurvey survey import table {path} -o DIR")


@survey.command("copy")
@click.argument("name", metavar="SURVEY")
@_OUTPUT
def survey_copy(name: str, output: Path) -> None:
    """Copy a survey as a folder of your own, to exclude, rephrase or edit questions in."""
    from defsurvey.storage.surveys.folder import find_folder
    from defsurvey.storage.surveys.write import copy_survey

    source = find_folder(name)
    with written_to("--output", output):
        copy_survey(source, output)
    click.echo(f"{output}: use it in a study by its path, relative to the study file")


@survey.command("exclude")
@_FOLDER
@click.argument("questions", type=text, nargs=-1, metavar="[QUESTION]...")
@click.option("--reason", type=text, help="Why; kept in the survey.")
@listing("--restore", metavar="Q1,Q2", help="Questions to take in again.")
@JSON
def survey_exclude(
    folder: Path, questions: tuple[str, ...], reason: str | None, restore: tuple[str, ...], as_json: bool
) -> None:
    """Leave questions of a survey out, with the reason; without a question, list those left out."""
    from defsurvey.storage.surveys.write import exclude_questions

    if questions and not reason:
        raise click.UsageError("expected --reason TEXT: why are the questions excluded?")
    if reason and not questions:
        raise click.UsageError("expected questions, got --reason alone: which are excluded for it?")
    left = exclude_questions(folder, dict.fromkeys(questions, reason or ""), restore=restore)
    lines = [f"{name}  {why}" for name, why in left.excluded.items()]
    lines.append(f"{len(left.excluded)} excluded, {len(left.questions)} left")
    print_result(dict(left.excluded), lines, as_json=as_json)


@survey.command("rephrase")
@_FOLDER
@click.option(
    "--model",
    "--engine",
    "model",
    type=text,
    required=True,
    metavar="MODEL",
    help="Card of the model that writes them.",
)
@click.option("-n", "count", type=click.IntRange(1, 99), default=3, show_default=True, help="Paraphrases per question.")
@listing("--languages", metavar="en,zh", help="Only these; all with a prompt by default.")
@listing("--questions", metavar="Q1,Q2", help="Only these; all by default.")
@counting("--attempts", default=3, help="Tries for each, earlier ones counted.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@DEVICE
@JSON
@click.pass_obj
def survey_rephrase(settings: Settings, /, folder: Path, as_json: bool, **options: Any) -> None:
    """Have paraphrases of a survey's questions written and checked; typed again, it goes on.

    Exit code 3: some are missing, since every attempt at them was rejected or failed.
    """
    from defsurvey.jobs.study.rephrasing import rephrase_folder

    done = rephrase_folder(settings, folder, console=console(stderr=True), **options)
    named = ("question", "language", "number", "text")
    rejected = [{**{n: getattr(one.paraphrase, n) for n in named}, "why": one.rejected} for one in done.rejected]
    lines = ["rejected: {question}, {language}, paraphrase {number}: {why}".format_map(one) for one in rejected]
    lines += [f"failed: {failure}" for failure in done.failures]
    lines.append(f"{folder}: {done.there} of {done.wanted} paraphrases, {done.written} of them new")
    print_result({"folder": str(folder), **asdict(done), "rejected": rejected}, lines, as_json=as_json)
    if done.there < done.wanted:
        sys.exit(INCOMPLETE)


VERBS = (survey,)
