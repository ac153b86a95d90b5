"""What people say of answers: an audit of judges by a table, and a review of unparsable answers on a terminal.

In an audit people see what a judge saw and never what it said. A review keeps readings, and no answer changes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

import numpy as np

from defsurvey.reports.export import write_csv
from defsurvey.storage.database import Database
from defsurvey.storage.errors import BadInput
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs import judgements, store, verdicts
from defsurvey.storage.runs.judgement import DIMENSIONS, AnswerKey, GivenAnswer, Verdict
from defsurvey.storage.surveys.importers.files import read_dicts, read_header
from defsurvey.storage.surveys.problem import shown
from defsurvey.storage.surveys.survey import Question, QuestionType
from defsurvey.storage.surveys.tables import to_count
from defsurvey.storage.text import visible
from defsurvey.workers.judging.prompt import asked_text, subject_of
from defsurvey.workers.simulation.prompts import option_text, request_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MOST_ANSWERS = 100  #: answers in a template, at most
#: Characters in one cell, at most; the longest reply of a server has no more (``workers.engines.http``).
LONGEST_CELL = 16 << 20
_PLACE = ("model", "culture", "condition", "language", "participant", "question", "slot")
COLUMNS = (*_PLACE, "digest", "asked", "chosen", "response", "person", *DIMENSIONS)
_NEEDED = (*_PLACE, "digest", "person", *DIMENSIONS)


class BadAudit(BadInput, ValueError):
    """A table of verdicts cannot be used; the message says file, row, what was expected and what was found."""


def write_template(database: Database, run_id: str, file: Path) -> int:
    """Write judged answers of a run, drawn by its seed, to a table with empty verdicts. Returns how many."""
    run = store.load_run(database, run_id)
    keys = verdicts.judged_keys(database, run_id)
    if not keys:
        raise BadAudit(f"run {run_id}: expected judged answers, got none; judge it first: defsurvey judge {run_id}")
    survey = store.load_survey(database, run.survey)
    drawn = np.random.default_rng(run.protocol.seed).permutation(len(keys))[:MOST_ANSWERS]
    rows = []
    for given in judgements.given_answers(database, [keys[place] for place in sorted(drawn)]):
        subject, answer = subject_of(given, survey), given.answer
        chosen = "; ".join(option_text(subject.question, code, subject.language) for code in answer.choices)
        seen = {"asked": asked_text(subject), "chosen": chosen or answer.state.value, "response": answer.completion}
        place = (*given.cell.names.values(), given.number, answer.question, answer.slot)
        placed = dict(zip(_PLACE, map(str, place), strict=True))
        rows.append(dict.fromkeys(COLUMNS, "") | placed | {"digest": _digest(given.key)} | seen)
    write_whole(file, lambda target: write_csv(rows, dict.fromkeys(COLUMNS, str), target))
    return len(rows)


def _digest(key: AnswerKey) -> str:
    """As a word that no spreadsheet takes for a number."""
    return f"d{key.digest & (2**64 - 1):016x}"


def read_labels(database: Database, run_id: str, file: Path) -> int:
    """Read people's verdicts from a table, all or none. Returns how many there are; blank ones are none."""
    store.design_of(database, run_id)
    csv.field_size_limit(LONGEST_CELL)  # the library writes longer cells than it reads by itself
    try:
        header = read_header(file)
        header.require(_NEEDED)
        rows = [row.cells for row in read_dicts(header)]
    except OSError as error:
        raise BadAudit(f"{file}: expected a table, got: {error.strerror}") from None
    numbered = enumerate(rows, start=2)  # as a spreadsheet numbers them
    found = [label for number, row in numbered if (label := _label(database, run_id, row, f"{file}, row {number}"))]
    if not found:
        raise BadAudit(f"{file}: expected at least one verdict, got none")
    verdicts.record_labels(database, run_id, found)
    return sum(len(label.verdicts) for label in found)


def _label(database: Database, run: str, row: Mapping[str, str], where: str) -> verdicts.Label | None:
    """What a row says; None where it has no verdict."""
    said = {dimension: row[dimension].casefold() for dimension in DIMENSIONS if row[dimension]}
    for dimension, word in said.items():
        if word not in tuple(Verdict):
            raise BadAudit(f"{where}, {dimension}: expected {', '.join(Verdict)} or nothing, got {row[dimension]!r}")
    if not said:
        return None
    if not row["person"]:
        raise BadAudit(f"{where}, person: expected who judged, got nothing")
    number, slot = to_count(row["participant"]), to_count(row["slot"])
    if number is None or slot is None:
        name = "participant" if number is None else "slot"
        raise BadAudit(f"{where}, {name}: expected a whole number of at most 9 digits, got {shown(row[name])}")
    names = {name: row[name] for name in ("model", "culture", "condition", "language")}
    key = verdicts.find_answer(database, run, names, number=number, question=row["question"], slot=slot)
    if key is None:
        raise BadAudit(f"{where}: run {run} has no such answer")
    if _digest(key) != row["digest"]:
        raise BadAudit(f"{where}, digest: expected {_digest(key)}, got {row['digest']!r}; was it asked again since?")
    return verdicts.Label(key=key, person=row["person"], verdicts={name: Verdict(word) for name, word in said.items()})


SKIP, REFUSE, UNDO, QUIT = "S", "R", "U", "Q"
#: Keys of the options, in the order in which they were shown: one for each of the most that a question may have.
OPTION_KEYS = digits[1:] + "0" + ascii_lowercase + "ABCDEFGHIJKLMNOPTVWXYZ" + "+-*/="
_ENTER = ("\r", "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What a review came to."""

    read: int
    skipped: int
    left: int  #: unparsable answers that this reader has not read


def review(database: Database, run_id: str, *, reader: str, key: Callable[[], str], console: Console) -> Reviewed:
    """Show every unparsable answer that the reader has not read, and keep how it is read.

    ``key`` waits for the next key; where it is interrupted (Ctrl-C) or at its end (Ctrl-D) instead, that quits.
    """
    survey = store.load_survey(database, store.load_run(database, run_id).survey)
    answers = list(judgements.given_answers(database, verdicts.to_read(database, run_id, reader)))
    past: list[verdicts.Reading | None] = []  # None: skipped
    with suppress(KeyboardInterrupt, EOFError):  # Ctrl-C and Ctrl-D quit as Q does: what was read has been kept
        while len(past) < len(answers):
            given = answers[len(past)]
            question = subject_of(given, survey).question
            head = f"{len(past) + 1} of {len(answers)}"
            pressed, codes = _ask(given, question, head=head, key=key, console=console)
            if pressed == QUIT:
                break
            if pressed == UNDO:
                if past and (before := past.pop()) is not None:
                    verdicts.take_back(database, before)
            elif pressed == SKIP:
                past.append(None)
            else:
                read = verdicts.Reading(key=given.key, reader=reader, choices=codes)
                verdicts.record_reading(database, read)
                past.append(read)
    done = sum(read is not None for read in past)
    return Reviewed(read=done, skipped=len(past) - done, left=len(answers) - done)


def _ask(
    given: GivenAnswer, question: Question, *, head: str, key: Callable[[], str], console: Console
) -> tuple[str, tuple[int, ...]]:
    """Show an answer until a key ends that. Returns the key, and the options chosen where it chose any."""
    chosen: set[int] = set()
    while True:
        console.clear()
        console.print(screen(given, question, chosen, head=head))
        pressed = key()
        if pressed in (QUIT, UNDO, SKIP, REFUSE):
            return pressed, ()
        code = dict(zip(OPTION_KEYS, given.answer.shown, strict=False)).get(pressed)
        if code is not None and question.type is not QuestionType.MULTIPLE:
            return pressed, (code,)
        if code is not None:
            chosen ^= {code}
        elif pressed in _ENTER and 0 < len(chosen) <= question.max_choices:
            return pressed, tuple(sorted(chosen))


def screen(given: GivenAnswer, question: Question, chosen: set[int], *, head: str) -> RenderableType:
    """One answer as it is shown, without control characters: what was asked, the response, and the keys."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    answer, language = given.answer, given.cell.language
    title = visible(f"{head}: {given.cell.model}, {given.cell.culture}, {question.id}")
    asked = Text(visible(request_text(question, answer.shown, language)))
    response = Text("\n".join(map(visible, answer.completion.splitlines())) or "(empty)")
    keys = Text()
    for option_key, code in zip(OPTION_KEYS, answer.shown, strict=False):
        mark = "x" if code in chosen else " "
        keys.append(f"[{option_key}] ", style="bold")
        keys.append(f"{mark} {visible(option_text(question, code, language))}\n")
    enter = f"Enter: these (at most {question.max_choices})   " if question.type is QuestionType.MULTIPLE else ""
    keys.append(f"{enter}R: refuses   S: skip   U: undo   Q: quit", style="dim")
    of_response = Panel(response, title=Text(f"response; {visible(answer.reason)}"))
    return Group(Panel(asked, title=Text(title)), of_response, keys)
