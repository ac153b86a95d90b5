"""What people say of answers: an audit of judges by a table, and a review of what the program could not read."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner
from rich.console import Console

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.judging import people
from defsurvey.jobs.judging.people import OPTION_KEYS, BadAudit, Reviewed, read_labels, review, screen, write_template
from defsurvey.jobs.results import current_report
from defsurvey.jobs.settings import Settings
from defsurvey.reports.figures.judging import judged_by
from defsurvey.storage.database import Database
from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs.judgement import AnswerKey, GivenAnswer
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.results import STATES, read_results
from defsurvey.storage.runs.run import AnswerState, Protocol
from defsurvey.storage.runs.store import add_run
from defsurvey.storage.runs.verdicts import read_by, with_readings
from defsurvey.storage.surveys.questions import MOST_OPTIONS
from defsurvey.storage.surveys.survey import Option
from tests.judging.conftest import JudgedRun, nowhere
from tests.storage.small_run import SURVEY, answer, claimed, new_cell, new_run, participant_ids, started
from tests.workers.citizens import citizen

Rows = list[dict[str, str]]


@pytest.fixture
def judged(here: JudgedRun, tmp_path: Path) -> Path:
    here.answer(6)
    here.judge()
    write_template(here.database, "first", tmp_path / "people.csv")
    return tmp_path / "people.csv"


def read(file: Path) -> Rows:
    with file.open(encoding="utf-8-sig", newline="") as table:
        return list(csv.DictReader(table))


def write(file: Path, rows: Rows) -> None:
    with file.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_people_and_judge_are_compared(here: JudgedRun, judged: Path) -> None:
    rows = read(judged)
    assert len(rows) == 34
    assert not any(row["qc"] or row["person"] for row in rows)
    for number, row in enumerate(rows):
        row |= {"person": "ann", "ff": "Fail" if "flat" in row["response"] or number == 0 else "pass"}
    rows[3]["ff"] = ""
    write(judged, rows)
    before = here.judgements().revision
    assert read_labels(here.database, "first", judged) == 33
    assert read_labels(here.database, "first", judged) == 33  # again: the same, not twice
    found = here.judgements()
    assert (found.revision, found.people) == (before + 2, {"ann": 33})
    _, notes = judged_by(found)
    ((judge, audits),) = notes.audits.items()
    assert judge == "judge (judge-1, rubric 1)"
    itself = next(audit for audit in audits if not audit.other and not audit.dimension)
    assert (itself.agreement.observed, itself.agreement.n) == (1.0, 6 * 4)
    ann = next(audit for audit in audits if (audit.other, audit.dimension) == ("ann", "ff"))
    assert ann.agreement.n == 33
    assert 0.9 < ann.agreement.observed < 1
    assert (ann.stricter.first_only, ann.stricter.second_only) in ((0, 1), (0, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qc": "maybe", "person": "ann"}, "row 2, qc: expected pass, fail, unsure or nothing, got 'maybe'"),
        ({"qc": "pass"}, "row 2, person: expected who judged, got nothing"),
        ({"qc": "pass", "person": "ann", "slot": "1" * 5000}, "row 2, slot: expected .* of at most 9 digits, got '1"),
        ({"qc": "pass", "person": "ann", "question": "Z"}, "row 2: run first has no such answer"),
        ({"qc": "pass", "person": "ann", "digest": "d0"}, "row 2, digest: expected d"),
        ({}, "expected at least one verdict, got none"),
    ],
)
def test_a_table_that_is_wrong_changes_nothing(
    here: JudgedRun, judged: Path, changes: dict[str, str], message: str
) -> None:
    write(judged, [read(judged)[0] | changes])
    with pytest.raises(BadAudit, match=message):
        read_labels(here.database, "first", judged)
    assert here.judgements().people == {}


def test_a_long_reply_is_read_back(here: JudgedRun, judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read(judged)[:2]
    rows[1] |= {"response": "A" * 200_000, "person": "ann", "qc": "pass"}
    write(judged, rows)
    assert read_labels(here.database, "first", judged) == 1
    monkeypatch.setattr(people, "LONGEST_CELL", 150_000)
    with pytest.raises(BadInput, match=r"people.csv, line .*: expected cells .*, got field larger than field limit"):
        read_labels(here.database, "first", judged)


def test_files_that_are_no_table_are_refused(here: JudgedRun, tmp_path: Path) -> None:
    """Missing, binary, without the columns; and no template of what nobody judged, or where none can be written."""
    here.answer(2)
    for content, message in ((None, "No such file"), (b"\xff\xfe\x00", "UTF-8"), (b"a,b\n", "a column 'model'")):
        if content is not None:
            (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(BadInput, match=message):
            read_labels(here.database, "first", tmp_path / "x.csv")
    with pytest.raises(BadAudit, match="expected judged answers, got none"):
        write_template(here.database, "first", tmp_path / "y.csv")
    assert not (tmp_path / "y.csv").exists()
    here.judge()
    refused = here.type("judge", "first", "--template", "/proc/x")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("defsurvey: --template: expected a place that can be written to, got /proc/x: ")


#: What participants 0, 1 and 2 said to questions A (one of 1-4), B (one of 7, 2, 5) and C (up to three of 1-5).
UNREAD = {(0, 0), (0, 2), (1, 1), (2, 0)}


@pytest.fixture
def unread(database: Database) -> Database:
    ledger = Ledger(database, owner="host:1:here")
    for number, who in enumerate(started(database, nowhere(new_cell(participants=3)))):
        held = claimed(ledger, who)
        for item in range(3):
            state = AnswerState.UNPARSABLE if (number, item) in UNREAD else AnswerState.ANSWERED
            shown = SURVEY.question("ABC"[item]).codes
            said = f"well {number} {item} \x1b[2J[bold]"
            ledger.checkpoint(held, answer(held, item, state=state, completion=said, shown=shown, reason="odd"), ())
    return database


def reviewed(
    database: Database, keys: str, reader: str = "ann", end: type[BaseException] = StopIteration
) -> tuple[Reviewed, str]:
    coming, shown = iter(keys), io.StringIO()

    def key() -> str:
        for pressed in coming:
            return pressed
        raise end

    done = review(database, "first", reader=reader, key=key, console=Console(file=shown, width=100))
    return done, shown.getvalue()


def test_every_key_does_what_it_says(unread: Database) -> None:
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
    done, _ = reviewed(unread, "1" + "U" + "2" + "S" + "UU" + "U" + "4" + "Q")
    assert done == Reviewed(read=1, skipped=0, left=3)
    assert read_by(unread, "first").answers == 1
    again, shown = reviewed(unread, "SSS")
    assert again == Reviewed(read=0, skipped=3, left=3)
    assert "1 of 3" in shown


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_whoever_leaves_in_the_middle_has_quit(unread: Database, end: type[BaseException]) -> None:
    done, _ = reviewed(unread, "1S", end=end)
    assert done == Reviewed(read=1, skipped=1, left=3)
    assert read_by(unread, "first").answers == 1


def test_readers_stand_apart_and_only_what_they_agree_on_counts(unread: Database) -> None:
    reviewed(unread, "1Q", "ann")
    reviewed(unread, "12\rQ", "bob")
    found = read_by(unread, "first")
    assert (found.answers, found.disputed, found.readers) == (2, 0, ("ann", "bob"))
    reviewed(unread, "1\rQ", "ann")
    assert (read_by(unread, "first").answers, read_by(unread, "first").disputed) == (1, 1)


def test_a_report_says_how_many_were_read_and_counts_them_only_when_asked(
    unread: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "home")})
    current_report(settings, unread, "first", None)
    monkeypatch.setattr("click.getchar", Mock(side_effect=["1", "Q"]))
    monkeypatch.setattr("defsurvey.jobs.cli.judging.sys", Mock(**{"stdin.isatty.return_value": True}))
    url = unread.url.render_as_string(hide_password=False)
    home = {"DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_DATABASE_URL": url}
    told = CliRunner().invoke(main, ["review", "first", "--reader", "ann"], env=home)
    assert told.exit_code == 0
    assert "first: 1 read, 0 skipped, 3 left to read\nwith them: defsurvey report first --readings\n" in told.stdout

    def text(**readings: bool) -> str:
        return Path(current_report(settings, unread, "first", None, **readings).markdown).read_text()

    assert "1 answers that the program could not read were read by people (ann) and are left out" in text()
    assert "are counted as they read them" in text(readings=True)
    assert "are left out" in text()
