"""A person resolves unparsable answers: one after the other on a terminal, a key for each way to read it.

What is read is kept as a reading of its own (``storage.runs.readings``); no answer changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

from defsurvey.storage.database import Database
from defsurvey.storage.runs import judgements, readings, store
from defsurvey.storage.runs.judgement import GivenAnswer
from defsurvey.storage.runs.readings import Reading
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Question, QuestionType, Survey
from defsurvey.storage.visible import visible
from defsurvey.workers.judging.prompt import subject_of
from defsurvey.workers.simulation.prompts import option_text, request_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

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
