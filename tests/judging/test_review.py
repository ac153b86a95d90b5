"""A person reads what the program could not: keys, attribution, undo; and a report with and without it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner
from rich.console import Console

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.judging.people import OPTION_KEYS, Reviewed, review, screen
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.runs.judgement import AnswerKey, GivenAnswer
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.results import STATES, read_results
from defsurvey.storage.runs.run import AnswerState, Protocol
from defsurvey.storage.runs.store import add_run
from defsurvey.storage.runs.verdicts import read_by, with_readings
from defsurvey.storage.surveys.questions import MOST_OPTIONS
from defsurvey.storage.surveys.survey import Option
from tests.judging.conftest import nowhere
from tests.storage.small_run import SURVEY, answer, claimed, new_cell, new_run, participant_ids, started
from tests.workers.citizens import citizen

#: What participants 0, 1 and 2 said to questions A (one of 1-4), B (one of 7, 2, 5) and C (up to three of 1-5).
UNREAD = {(0, 0), (0, 2), (1, 1), (2, 0)}


@pytest.fixture
def unread(database: Database) -> Database:
    """A run of three participants, four of whose answers are unparsable; one tries to write on the terminal."""
    people = started(database, nowhere(new_cell(participants=3)))
    ledger = Ledger(database, owner="host:1:here")
    for number, who in enumerate(people):
        held = claimed(ledger, who)
        for item in range(3):
            state = AnswerState.UNPARSABLE if (number, item) in UNREAD else AnswerState.ANSWERED
            shown = SURVEY.question("ABC"[item]).codes
            said = f"well {number} {item} \x1b[2J[bold]"
            ledger.checkpoint(held, answer(held, item, state=state, completion=said, shown=shown, reason="odd"), ())
    return database


def typed(keys: str) -> Callable[[], str]:
    """Somebody who presses these keys."""
    coming: Iterator[str] = iter(keys)
    return lambda: next(coming)


def reviewed(database: Database, keys: str, reader: str = "ann") -> tuple[Reviewed, str]:
    """A review by these keys, and all that was shown."""
    shown = io.StringIO()
    done = review(database, "first", reader=reader, key=typed(keys), console=Console(file=shown, width=100))
    return done, shown.getvalue()


def test_every_key_does_what_it_says(unread: Database) -> None:
    """One option, several with Enter, a refusal, a skip; keys without meaning do nothing."""
    done, shown = reviewed(unread, "9?3" + "\r13x1\r" + "R" + "S")
    assert done == Reviewed(read=3, skipped=1, left=1)
    results = with_readings(unread, read_results(unread, "first"))
    places = zip(results.answers.participant.tolist(), results.answers.question.tolist(), strict=True)
    rows = {place: row for row, place in enumerate(places)}
    states = {key: STATES[results.answers.state[row]] for key, row in rows.items() if key in UNREAD}
    answered, refused = AnswerState.ANSWERED, AnswerState.REFUSED
    assert states == {(0, 0): answered, (0, 2): answered, (1, 1): refused, (2, 0): AnswerState.UNPARSABLE}
    assert results.answers.choices[rows[0, 0]] == 1 << 2
    assert results.answers.choices[rows[0, 2]] == 1 << 2  # 1 was taken back
    assert (results.progress.answered, results.progress.refused, results.progress.unparsable) == (7, 1, 1)
    assert "1 of 4: model-a, us, A" in shown
    assert "[bold]" in shown
    assert "\x1b" not in shown
    assert read_results(unread, "first").progress.unparsable == 4


def test_a_survey_cannot_write_on_the_terminal_either() -> None:
    """Nor can the names of a run: question, options, model and culture are shown with invisible signs written out."""
    odd, written = "a\x1b[2J", "a⟨U+001B⟩[2J"
    options = tuple(replace(option, label={"en": odd}) for option in SURVEY.question("A").options)
    question = replace(SURVEY.question("A"), text={"en": odd}, options=options)
    who = citizen(Protocol(seed=7))
    given = GivenAnswer(
        key=AnswerKey(participant=1, item=0, slot=0, attempt=1, digest=0),
        cell=replace(new_cell(), model=odd, culture=odd),
        number=0,
        answer=answer(who, 0, state=AnswerState.UNPARSABLE, completion=odd, shown=question.codes, reason=odd),
    )
    shown = io.StringIO()
    Console(file=shown, width=100).print(screen(given, question, set(), head="1 of 1"))
    assert "\x1b" not in shown.getvalue()
    assert shown.getvalue().count(written) == 2 + 1 + 4 + 4 + 2  # names, question, options, keys, reason and response


def test_each_of_many_options_has_a_key_of_its_own(database: Database) -> None:
    """Of the most that a question may have; none is one that skips, refuses, takes back or quits."""
    options = tuple(Option(code=code, label={"en": f"party {code}"}) for code in range(101, 101 + MOST_OPTIONS))
    survey = replace(SURVEY, questions=(replace(SURVEY.question("B"), options=options), *SURVEY.questions[::2]))
    cell = nowhere(new_cell(participants=MOST_OPTIONS))
    add_run(database, replace(new_run(cell, questions=("B",)), survey=survey))
    ledger = Ledger(database, owner="host:1:here")
    shown = tuple(option.code for option in options)
    for held in (claimed(ledger, who) for who in participant_ids(database)):
        ledger.checkpoint(held, answer(held, 0, question="B", state=AnswerState.UNPARSABLE, shown=shown), ())
    done, screens = reviewed(database, OPTION_KEYS)
    assert done == Reviewed(read=MOST_OPTIONS, skipped=0, left=0)
    assert f"[{OPTION_KEYS[-1]}]   163: party 163\n" in screens
    results = with_readings(database, read_results(database, "first"))
    assert results.answers.choices.tolist() == [1 << place for place in range(MOST_OPTIONS)]


def test_undo_takes_back_also_what_was_kept(unread: Database) -> None:
    """And quitting keeps the rest, which the next review shows."""
    done, _ = reviewed(unread, "1" + "U" + "2" + "S" + "UU" + "U" + "4" + "Q")
    assert done == Reviewed(read=1, skipped=0, left=3)
    assert read_by(unread, "first").answers == 1
    again, shown = reviewed(unread, "SSS")
    assert again == Reviewed(read=0, skipped=3, left=3)
    assert "1 of 3" in shown


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_whoever_leaves_in_the_middle_has_quit(unread: Database, end: type[BaseException]) -> None:
    """By Ctrl-C or Ctrl-D, as by Q: what was read is kept, and said."""
    keys = iter("1S")

    def key() -> str:
        for pressed in keys:
            return pressed
        raise end

    done = review(unread, "first", reader="ann", key=key, console=Console(file=io.StringIO(), width=100))
    assert done == Reviewed(read=1, skipped=1, left=3)
    assert read_by(unread, "first").answers == 1


def test_the_report_tells_of_what_was_read_however_it_was_left(
    unread: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written before the command says how far it came."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "home")})
    current_report(settings, unread, "first", None)
    pressed = Mock(side_effect=["1", "Q"])
    monkeypatch.setattr("click.getchar", pressed)
    monkeypatch.setattr("defsurvey.jobs.cli.judging.sys", Mock(**{"stdin.isatty.return_value": True}))
    url = unread.url.render_as_string(hide_password=False)
    home = {"DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_DATABASE_URL": url}
    told = CliRunner().invoke(main, ["review", "first", "--reader", "ann"], env=home)
    assert told.exit_code == 0
    assert "first: 1 read, 0 skipped, 3 left to read\nwith them: defsurvey report first --readings\n" in told.stdout
    text = Path(current_report(settings, unread, "first", None).markdown).read_text()
    assert "1 answers that the program could not read were read by people (ann)" in text


def test_readers_stand_apart_and_only_what_they_agree_on_counts(unread: Database) -> None:
    """Two readers, two readings of each answer."""
    reviewed(unread, "1Q", "ann")
    reviewed(unread, "12\rQ", "bob")
    found = read_by(unread, "first")
    assert (found.answers, found.disputed, found.readers) == (2, 0, ("ann", "bob"))
    reviewed(unread, "1\rQ", "ann")
    assert (read_by(unread, "first").answers, read_by(unread, "first").disputed) == (1, 1)


def test_a_report_says_how_many_and_counts_them_only_when_asked(unread: Database, tmp_path: Path) -> None:
    """Left out unless asked for; exports do not change."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "home")})
    reviewed(unread, "1Q")
    own = current_report(settings, unread, "first", None)
    text = Path(own.markdown).read_text()
    assert "1 answers that the program could not read were read by people (ann) and are left out" in text
    counted = current_report(settings, unread, "first", None, readings=True)
    assert "are counted as they read them" in Path(counted.markdown).read_text()
    assert Path(own.markdown).read_text() == text
