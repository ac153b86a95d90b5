"""The audit of judges: a table of judged answers for people to judge, and what they wrote into it.

People see what a judge saw and never what it said.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

import numpy as np

from defsurvey.reports.export import write_csv
from defsurvey.storage.database import Database
from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs import judgements, labels, readings, store
from defsurvey.storage.runs.judgement import DIMENSIONS, AnswerKey, GivenAnswer, Verdict
from defsurvey.storage.runs.labels import Label, Place
from defsurvey.storage.runs.read_judgements import judged_keys
from defsurvey.storage.runs.readings import Reading
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Question, QuestionType, Survey
from defsurvey.storage.visible import visible
from defsurvey.storage.whole_file import write_whole
from defsurvey.workers.judging.prompt import asked_text, subject_of
from defsurvey.workers.simulation.prompts import option_text, request_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Answers in a template, at most.
MOST_ANSWERS = 100
#: Characters in one cell, at most; the longest reply of a server has no more (``workers.engines.in_time``).
LONGEST_CELL = 16 << 20
#: Of a number in a place: as many as a column of the database has room for.
_DIGITS = 9
_PLACE = ("model", "culture", "condition", "language", "participant", "question", "slot")
_SHOWN = ("asked", "chosen", "response")
COLUMNS = (*_PLACE, "digest", *_SHOWN, "person", *DIMENSIONS)
_NEEDED = (*_PLACE, "digest", "person", *DIMENSIONS)


class BadAudit(BadInput, ValueError):
    """A table of verdicts cannot be used; the message says file, row, what was expected and what was found."""


def write_template(database: Database, run_id: str, file: Path) -> int:
    """Write judged answers of a run, drawn by its seed, to a table with empty verdicts. Returns how many.

    Raises:
        storage.runs.store.UnknownRun: there is no such run.
        BadAudit: nothing is judged.
    """
    run = store.load_run(database, run_id)
    keys = judged_keys(database, run_id)
    if not keys:
        raise BadAudit(f"run {run_id}: expected judged answers, got none; judge it first: defsurvey judge {run_id}")
    survey = store.load_survey(database, run.survey)
    drawn = np.random.default_rng(run.protocol.seed).permutation(len(keys))[:MOST_ANSWERS]
    rows = []
    for answer in judgements.given_answers(database, [keys[place] for place in sorted(drawn)]):
        subject = subject_of(answer, survey)
        chosen = "; ".join(option_text(subject.question, code, subject.language) for code in answer.choices)
        shown = {"asked": asked_text(subject), "chosen": chosen or answer.state.value, "response": answer.completion}
        empty = dict.fromkeys(("person", *DIMENSIONS), "")
        rows.append({**_place(answer), "digest": _digest(answer.key), **shown, **empty})
    write_whole(file, lambda target: write_csv(rows, dict.fromkeys(COLUMNS, str), target))
    return len(rows)


def _place(answer: GivenAnswer) -> dict[str, str]:
    cell = answer.cell
    told = (cell.model, cell.culture, cell.condition.name, cell.language, answer.number, answer.question)
    return dict(zip(_PLACE, map(str, (*told, answer.key.slot)), strict=True))


def _digest(key: AnswerKey) -> str:
    """As a word that no spreadsheet takes for a number."""
    return f"d{key.digest & (2**64 - 1):016x}"


def read_labels(database: Database, run_id: str, file: Path) -> int:
    """Read people's verdicts from a table. Returns how many there are; blank ones are none.

    Raises:
        storage.runs.store.UnknownRun: there is no such run.
        BadAudit: the table cannot be used; nothing is kept.
    """
    store.design_of(database, run_id)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BadAudit(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadAudit(f"{file}: expected a table in UTF-8, got: {error}") from None
    rows = enumerate(_rows(text, file), start=2)  # as a spreadsheet numbers them
    found = [label for number, row in rows if (label := _label(database, run_id, row, f"{file}, row {number}"))]
    if not found:
        raise BadAudit(f"{file}: expected at least one verdict, got none")
    labels.record_labels(database, found)
    judgements.touch(database, run_id)
    return sum(len(label.verdicts) for label in found)


def _rows(text: str, file: Path) -> list[Mapping[str, str | None]]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    rows: list[Mapping[str, str | None]] = []
    with _long_cells():
        try:
            missing = [name for name in _NEEDED if name not in (table.fieldnames or ())]
            if missing:
                raise BadAudit(f"{file}: expected the columns {', '.join(_NEEDED)}, got none named {missing[0]}")
            rows.extend(table)
        except csv.Error as error:
            raise BadAudit(f"{file}, row {len(rows) + 2}: expected a table, got: {error}") from None
    return rows


@contextmanager
def _long_cells() -> Iterator[None]:
    """Have the library take cells of ``LONGEST_CELL``: it writes longer ones than it reads by itself."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _label(database: Database, run: str, row: Mapping[str, str | None], where: str) -> Label | None:
    verdicts = {}
    for dimension in DIMENSIONS:
        word = (row[dimension] or "").strip().casefold()
        if not word:
            continue
        if word not in tuple(Verdict):
            raise BadAudit(f"{where}, {dimension}: expected {', '.join(Verdict)} or nothing, got {row[dimension]!r}")
        verdicts[dimension] = Verdict(word)
    if not verdicts:
        return None
    person = (row["person"] or "").strip()
    if not person:
        raise BadAudit(f"{where}, person: expected who judged, got nothing")
    key = labels.find_answer(database, run, _read_place(row, where))
    if key is None:
        raise BadAudit(f"{where}: run {run} has no such answer")
    if _digest(key) != (row["digest"] or "").strip():
        raise BadAudit(f"{where}, digest: expected {_digest(key)}, got {row['digest']!r}; was it asked again since?")
    return Label(key=key, person=person, verdicts=verdicts)


def _read_place(row: Mapping[str, str | None], where: str) -> Place:
    told = {name: (row[name] or "").strip() for name in _PLACE}
    for name in ("participant", "slot"):
        if not told[name].isdecimal():
            raise BadAudit(f"{where}, {name}: expected a whole number, got {told[name]!r}")
        if len(told[name]) > _DIGITS:
            raise BadAudit(f"{where}, {name}: expected a whole number of at most {_DIGITS} digits, got more")
    return Place(
        model=told["model"],
        culture=told["culture"],
        condition=told["condition"],
        language=told["language"],
        number=int(told["participant"]),
        question=told["question"],
        slot=int(told["slot"]),
    )


SKIP, REFUSE, UNDO, QUIT = "S", "R", "U", "Q"
#: Keys of the options, in the order in which they were shown: one for each of the most that a question may have.
OPTION_KEYS = digits[1:] + "0" + ascii_lowercase + "ABCDEFGHIJKLMNOPTVWXYZ" + "+-*/="
_ENTER = ("\r", "\n")


@dataclass(slots=True)
class Reviewed:
    """What a review came to."""

    read: int = 0
    skipped: int = 0
    left: int = 0  #: unparsable answers that this reader has not read


def review(database: Database, run_id: str, *, reader: str, key: Callable[[], str], console: Console) -> Reviewed:
    """Show every unparsable answer that the reader has not read, and keep how it is read.

    Args:
        database: where the run is.
        run_id: which run.
        reader: under which name readings are kept.
        key: waits for the next key; where it is interrupted (Ctrl-C) or at its end (Ctrl-D) instead, that quits.
        console: where answers are shown.

    Raises:
        storage.runs.store.UnknownRun: there is no such run.
    """
    run = store.load_run(database, run_id)
    survey = store.load_survey(database, run.survey)
    answers = list(judgements.given_answers(database, readings.to_read(database, run_id, reader)))
    past: list[Reading | None] = []  # None: skipped
    with suppress(KeyboardInterrupt, EOFError):  # Ctrl-C and Ctrl-D quit as Q does: what was read has been kept
        _read(database, survey, answers, past, reader=reader, key=key, console=console)
    return _summary(past, len(answers))


def _read(
    database: Database,
    survey: Survey,
    answers: Sequence[GivenAnswer],
    past: list[Reading | None],
    *,
    reader: str,
    key: Callable[[], str],
    console: Console,
) -> None:
    """Show one answer after the other until all are ``past`` or the reader quits."""
    while len(past) < len(answers):
        answer = answers[len(past)]
        question = subject_of(answer, survey).question
        chosen: set[int] = set()
        while True:
            console.clear()
            console.print(screen(answer, question, chosen, number=len(past) + 1, total=len(answers)))
            pressed = key()
            if pressed == QUIT:
                return
            if pressed == UNDO:
                if past and (before := past.pop()) is not None:
                    readings.take_back(database, before)
                break
            if pressed == SKIP:
                past.append(None)
                break
            if read := _reading(answer, question, reader, chosen, pressed):
                readings.record_reading(database, read)
                past.append(read)
                break


def _summary(past: list[Reading | None], total: int) -> Reviewed:
    read = sum(one is not None for one in past)
    return Reviewed(read=read, skipped=len(past) - read, left=total - read)


def _reading(answer: GivenAnswer, question: Question, reader: str, chosen: set[int], pressed: str) -> Reading | None:
    """The reading that a key completes; None where there is more to press. Options pressed are kept in ``chosen``."""
    if pressed == REFUSE:
        return Reading(key=answer.key, reader=reader, state=AnswerState.REFUSED)
    codes: tuple[int, ...] = ()
    if question.type is QuestionType.MULTIPLE:
        if pressed in _ENTER and 0 < len(chosen) <= question.max_choices:
            codes = tuple(sorted(chosen))
        elif (code := _option(answer, pressed)) is not None:
            chosen ^= {code}
    elif (code := _option(answer, pressed)) is not None:
        codes = (code,)
    return Reading(key=answer.key, reader=reader, state=AnswerState.ANSWERED, choices=codes) if codes else None


def _option(answer: GivenAnswer, pressed: str) -> int | None:
    place = OPTION_KEYS.find(pressed) if len(pressed) == 1 else -1
    return answer.shown[place] if 0 <= place < len(answer.shown) else None


def screen(answer: GivenAnswer, question: Question, chosen: set[int], *, number: int, total: int) -> RenderableType:
    """One answer as it is shown, without control characters: what was asked, the response, and the keys."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    language = answer.cell.language
    head = visible(f"{number} of {total}: {answer.cell.model}, {answer.cell.culture}, {question.id}")
    asked = Text(visible(request_text(question, answer.shown, language)))
    response = Text("\n".join(map(visible, answer.completion.splitlines())) or "(empty)")
    keys = Text()
    for place, code in enumerate(answer.shown):
        mark = "x" if code in chosen else " "
        keys.append(f"[{OPTION_KEYS[place]}] ", style="bold").append(
            f"{mark} {visible(option_text(question, code, language))}\n"
        )
    several = question.type is QuestionType.MULTIPLE
    enter = f"Enter: these (at most {question.max_choices})   " if several else ""
    keys.append(f"{enter}R: refuses   S: skip   U: undo   Q: quit", style="dim")
    return Group(
        Panel(asked, title=Text(head)), Panel(response, title=Text(f"response; {visible(answer.reason)}")), keys
    )
