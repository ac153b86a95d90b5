"""A run moved as one file comes out as it went in; one that anybody may have written holds only what a run can."""

import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from defsurvey.jobs.cli.main import told
from defsurvey.storage.database import Database
from defsurvey.storage.runs import archive, judgements, outbox, store, tables
from defsurvey.storage.runs.archive import BadBundle, export_bundle, import_bundle
from defsurvey.storage.runs.budget import spent as spent_on
from defsurvey.storage.runs.export import answer_rows
from defsurvey.storage.runs.judgement import DIMENSIONS, Finding, Judgement, JudgeName, Verdict
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.probes import Probe, ProbeKind, add_probes, read_probes
from defsurvey.storage.runs.recovery import ask_again
from defsurvey.storage.runs.rows import digest
from defsurvey.storage.runs.run import MOST_PARTICIPANTS, AnswerState, CompletedStep, Condition, OptionProbabilities
from defsurvey.storage.runs.steps import commit_probabilities, commit_step, read_probabilities, steps_of
from defsurvey.storage.runs.store import record_served
from defsurvey.storage.schema import migrate
from defsurvey.storage.surveys.as_json import fingerprint, survey_from_json
from defsurvey.storage.surveys.problem import SurveyError
from tests.storage.small_run import answer, claimed, finish, new_cell, started
from tests.storage.what_is_there import progress_of

Rows = dict[str, list[Any]]


Change = Callable[[Rows], object]


def remade(database: Database, folder: Path, change: Change, *, run: Any = "first") -> Path:
    """A bundle of the run whose rows were changed, with the hashes that they have now."""
    file, made = folder / "run.bundle", folder / "remade.bundle"
    export_bundle(database, "first", file)
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        rows: Rows = {
            name: [json.loads(line) for line in archive.read(f"{name}.jsonl").splitlines()]
            for name in manifest["members"]
        }
    change(rows)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, written in rows.items():
            body = b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in written)
            manifest["members"][name] = {"rows": len(written), "sha256": hashlib.sha256(body).hexdigest()}
            archive.writestr(f"{name}.jsonl", body)
        archive.writestr("manifest.json", json.dumps(manifest | {"run": run}))
    return made


def first(table: str, **columns: Any) -> Change:
    """The first row of a table gets other values."""
    return lambda rows: rows[table][0].update(columns)


def refused(elsewhere: Database, file: Path) -> str:
    """The message with which a bundle is refused: wrong input, one line that can be seen, and nothing was written."""
    with pytest.raises(BadBundle) as error:
        import_bundle(elsewhere, file)
    assert told(error.value, None) == (2, str(error.value))
    assert store.run_ids(elsewhere) == ["other"]
    with elsewhere.read() as connection:
        assert connection.execute(select(tables.judge)).all() == []
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < len(str(file)) + 500
    return message


@pytest.fixture
def moved(sqlite_url: str) -> Iterator[Database]:
    """The run to be moved: a finished participant and one who has answered once."""
    with Database(sqlite_url) as opened:
        ledger = Ledger(opened, owner="host:1:here")
        first, second = started(opened, new_cell(participants=2))
        finish(ledger, first)
        ledger.checkpoint(held := claimed(ledger, second), answer(held, 0), (0,))
        yield opened


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'elsewhere.db'}") as opened:
        migrate(opened)
        started(opened, id="other")
        yield opened


@pytest.fixture
def refusal(moved: Database, elsewhere: Database, tmp_path: Path) -> Callable[..., str]:
    """With which message a bundle is refused after a change of its rows."""
    return lambda change, run="first": refused(elsewhere, remade(moved, tmp_path, change, run=run))


def test_a_run_comes_out_as_it_went_in(
    database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers, progress, design, what served it and what is to be asked again are the same; leases stay behind.

    Rows go in by the batch, so that others can write soon, and stay with their participants all the same.
    """
    weighed = replace(new_cell(participants=1), condition=Condition(name="read", method="first-token", slots=0))
    first, second, _, read = started(database, new_cell(participants=3), weighed)
    finish(ledger, first)
    held = claimed(ledger, second)
    ledger.checkpoint(held, answer(held, 0, completion='="1"\n选项\x00'), (0,))
    ledger.checkpoint(held, answer(held, 1, state=AnswerState.FAILED, reason="gone"), (0,))
    record_served(database, "first", "model-a", {"weights": "abc"}, {"numpy": "2"})
    probe = Probe(model="m", kind=ProbeKind.OPTIONS, culture="", language="en", question="A", prompt="?", completion="")
    add_probes(database, "first", [probe])
    said = answer(held, 2)
    told = {"completion": "so far", "finish": "stop", "seed": said.seed, "used": said.used}
    commit_step(database, ledger.owner, held, CompletedStep(participant=second, item=2, attempt=0, number=0, **told))
    shares = {"question": "A", "order": 0, "shown": (2, 1), "probabilities": (0.75, 0.25)}
    commit_probabilities(database, claimed(ledger, read), 0, [OptionProbabilities(participant=read, item=0, **shares)])
    ask_again(database, "first", [AnswerState.FAILED])
    file = tmp_path / "run.bundle"
    assert export_bundle(database, "first", file) == 5
    monkeypatch.setattr(archive, "_BATCH", 2)
    statements: list[str] = []

    @event.listens_for(elsewhere.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    with elsewhere:
        assert import_bundle(elsewhere, file) == "first"
        made = [
            sum(line.startswith(f"INSERT INTO {table} ") for line in statements) for table in ("answer", "participant")
        ]
        assert made == [3, 2]
        assert read_probes(elsewhere, "first") == (probe,)
        assert read_probabilities(elsewhere, "first") == read_probabilities(database, "first")
        rows = [list(answer_rows(each, "first", telemetry=True)) for each in (elsewhere, database)]
        assert rows[0] == rows[1]
        assert progress_of(elsewhere, "first") == progress_of(database, "first")
        assert store.design_of(elsewhere, "first") == store.design_of(database, "first")
        assert outbox.revision(elsewhere, "first") == outbox.revision(database, "first")
        survey = store.load_run(elsewhere, "first").survey
        assert store.load_survey(elsewhere, survey) == store.load_survey(database, survey)
        assert outbox.waiting(elsewhere, "first") == 3
        other = Ledger(elsewhere, owner="other:1:here")
        held = claimed(other, outbox.outgoing(elsewhere, run="first")[0].participant)
        assert [step.completion for step in steps_of(elsewhere, held.id, 2, 0)] == ["so far"]
        assert [(again.item, attempt) for again, attempt in other.to_ask_again(held)] == [(1, 1)]


@pytest.mark.parametrize(
    ("member", "before", "after", "told"),
    [
        ("answer.jsonl", b"option", b"potion", r"answer\.jsonl is damaged"),
        ("cell.jsonl", b'"model"', b'"modem"', r"cell\.jsonl is damaged"),  # before a row of it is written
        ("manifest.json", b'"format": 1', b'"format": 99', r"expected format 1 and schema \d+, got \[99, '\d+'\]"),
        ("manifest.json", b'"run": "first"', b'"run": ["first"]', r"expected the id of a run, .*, got \['first'\]"),
        ("manifest.json", b'"run": "first"', b'"run": "../../evil"', "expected the id of a run, a name of at most 64 "),
        ("manifest.json", b'"run": "first"', rb'"run": "a\u0000b"', "half a character"),
        ("manifest.json", b'"cell": {', b'"sell": {', "expected members survey, run, .*, got .*'sell'"),
        ("manifest.json", b'"rows": 2', b'"cows": 2', "member .*: expected rows and sha256, got .*'cows': 2"),
        ("manifest.json", b"{", b"[[", "is no bundle of a run: expected JSON"),
    ],
)
def test_a_damaged_file_leaves_nothing_behind(
    moved: Database, elsewhere: Database, tmp_path: Path, member: str, before: bytes, after: bytes, told: str
) -> None:
    file, damaged = tmp_path / "run.bundle", tmp_path / "damaged.bundle"
    export_bundle(moved, "first", file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            assert name != member or before in content
            target.writestr(name, content.replace(before, after, 1) if name == member else content)
    assert re.search(told, refused(elsewhere, damaged))


@pytest.mark.parametrize("damage", ["packed otherwise", "encrypted", "cut off"])
def test_damage_that_the_archive_itself_notices_is_told(
    moved: Database, elsewhere: Database, tmp_path: Path, damage: str
) -> None:
    file, name = tmp_path / "run.bundle", b"answer.jsonl"
    export_bundle(moved, "first", file)
    content = file.read_bytes()
    changed = bytearray(content)
    entry = content.rindex(name, 0, content.rindex(b"PK\x05\x06")) - 46  # of the directory, at the end
    match damage:
        case "packed otherwise":
            changed[entry + 10] = zipfile.ZIP_LZMA
        case "encrypted":
            changed[entry + 8] |= 1
        case "cut off":
            del changed[entry:]
    file.write_bytes(changed)
    told = "answer.jsonl is packed in another way than ours" if damage == "packed otherwise" else ""
    assert f"is no bundle of a run: {told}" in refused(elsewhere, file)


def test_what_is_not_there_or_here_already_is_refused(moved: Database, elsewhere: Database, tmp_path: Path) -> None:
    file = tmp_path / "run.bundle"
    assert "there is no such file" in refused(elsewhere, file)
    with pytest.raises(store.UnknownRun, match="there is no run 'nowhere'"):
        export_bundle(moved, "nowhere", file)
    assert not file.exists()
    file.write_bytes(b"no archive")
    assert "is no bundle" in refused(elsewhere, file)
    file.unlink()
    export_bundle(moved, "first", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask()  # what the account leaves others of a new file
    before = list(answer_rows(moved, "first", telemetry=True))
    with pytest.raises(BadBundle, match="run first is here already"):
        import_bundle(moved, file)
    assert list(answer_rows(moved, "first", telemetry=True)) == before


def umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def read_as(state: str, choices: list[int]) -> Change:
    """Somebody has read the first answer, which the program could not read."""

    def change(rows: Rows) -> None:
        answered = rows["answer"][0]
        answered |= {"state": "unparsable", "choices": []}
        row = {column: answered[column] for column in ("participant", "item", "slot", "digest")}
        rows["reading"].append(row | {"reader": "me", "state": state, "choices": choices, "read_at": 1.0})

    return change


def appended(table: str, row: bytes | None = None) -> Change:
    """A table gets another row: the one given, or its first once more."""
    return lambda rows: rows[table].append(rows[table][0] if row is None else row)


#: What is changed, and what the message must contain.
MISTAKES: list[tuple[Change, str]] = [
    (first("run", id="second"), "run.jsonl, line 1: id: expected the run first alone, got 'second'"),
    (appended("run"), "run.jsonl, line 2: id: expected the run first alone"),
    (lambda rows: rows["run"].clear(), "run.jsonl, line 0: expected run first, got none"),
    (lambda rows: rows["survey"].clear(), "survey: expected the one in the file, got another"),
    (first("survey", body={}), "survey.jsonl, line 1: stored survey: expected form 1, got None"),
    (first("cell", run="other"), "cell.jsonl, line 1: run: expected first, got 'other'"),
    (first("cell", culture="xx"), "culture: expected one that the run has, got 'xx'"),
    (first("cell", model="a\x1b[2J"), "model: expected a text without control characters"),
    (appended("answer", b"[" * 99_999 + b"\n"), "answer.jsonl, line 5: expected JSON"),
    (appended("answer", b'{"seconds": NaN}\n'), "NaN is no finite number"),
    (first("answer", nope=1), "answer.jsonl, line 1: expected the columns"),
    (first("answer", seed=10**30), "seed: expected a number below 9223372036854775808, got 1"),
    (first("answer", completion=5), "completion: expected a text, got 5"),
    (first("answer", completion="\ud800"), "expected text that can be stored, got a NUL or half"),
    (first("answer", draws={}), "draws.region: expected a key 'region', got none"),
    (first("answer", participant=999), "participant: expected one that the run has, got 999"),
    (first("answer", question="Z"), "question: expected one that the run has, got 'Z'"),
    (first("answer", shown=[99]), "shown: expected some options of A, each once, got [99]"),
    (first("answer", choices=[]), "choices: expected some exactly where it is answered, got []"),
    (lambda rows: rows["answer"][2].update(choices=[1, 1]), "choices: expected at most 3 of C, each once, got [1, 1]"),
    (appended("answer"), "its rows contradict each other"),
    (first("participant", prompt_tokens=-1), "prompt_tokens: expected a number of at least 0, got -1"),
    (first("participant", number=MOST_PARTICIPANTS), "number: expected a number below 100000, got 100000"),
    (first("run", created_at=1e300), "created_at: expected a number below 2.53402e+11, got 1e+300"),
    (first("run", questions=["Z"]), "questions: expected questions of the survey, got 'Z'"),
    (first("run", judge=[1]), "judge: expected an object, got [1]"),
    (read_as("answered", [999]), "reading.jsonl: choices: expected options of A, got [999]"),
    (read_as("refused", [1]), "reading.jsonl, line 1: choices: expected some exactly where it is answered, got [1]"),
]


@pytest.mark.parametrize(("change", "told"), MISTAKES, ids=count())
def test_what_no_run_can_hold_is_refused(refusal: Callable[..., str], change: Change, told: str) -> None:
    assert told in refusal(change)


def test_a_survey_is_the_one_of_its_fingerprint(refusal: Callable[..., str]) -> None:
    """Else figures of a bundle's making would be those of every later run of that survey."""

    def change(rows: Rows) -> None:
        (row,) = rows["survey"]
        shares = {**row["body"]["references"][0], "shares": [[1, 1.0]]}
        rows["survey"] = [row, {**row, "body": {**row["body"], "references": [shares]}}]

    told = "fingerprint: expected that of the one survey of the run, got another"
    assert told in refusal(change)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda body: body.update(title=5), "title"),
        (lambda body: body["questions"][0]["text"].update(en="\u2068"), "text.en (a control character, U+2068)"),
        (lambda body: body["questions"][0]["options"][1].update(code=1), "the options of A"),
        (lambda body: body["questions"][0]["text"].pop("en"), "the languages of A"),
        (lambda body: body["references"][0].update(n=0), "the references of A"),
        (lambda body: body["questions"].append(body["questions"][0]), "its ids"),
    ],
)
def test_a_survey_that_could_not_be_asked_is_refused(
    refusal: Callable[..., str], change: Callable[[Any], object], where: str
) -> None:
    def changed(rows: Rows) -> None:
        (row,) = rows["survey"]
        change(row["body"])
        with suppress(SurveyError):
            row["fingerprint"] = row["body"]["fingerprint"] = fingerprint(survey_from_json(row["body"]))
        rows["run"][0]["survey"] = row["fingerprint"]

    assert where in refusal(changed)


def judged(database: Database, prices: tuple[float, float] | None) -> None:
    """A judge that takes 1 and 5 dollars has judged an answer, which cost other prices, or was not priced yet."""
    name = JudgeName(identity="kind (v1)", model="kind", description={}, input_price=1.0, output_price=5.0)
    judge = judgements.register(database, name)
    findings = dict.fromkeys(DIMENSIONS, Finding(verdict=Verdict.PASS))
    said = Judgement(findings=findings, prompt_tokens=1_000_000, completion_tokens=0)
    judgements.record_calibration(database, judge, "item", said)
    (call, *_) = judgements.sample(database, [store.load_run(database, "first").cells[0].id], share=1, seed=0)
    judgements.record(database, judge, [(call, said)], prices=prices, batched=False)


@pytest.mark.parametrize(("prices", "spent"), [((3.0, 0.0), 3.0), (None, 1.0)])
def test_a_judge_that_comes_along_is_unknown_here(
    moved: Database, elsewhere: Database, tmp_path: Path, prices: tuple[float, float] | None, spent: float
) -> None:
    """It has not been calibrated and has no price here; what it said of the run, and what that cost, has come too."""
    judged(moved, prices)

    import_bundle(elsewhere, remade(moved, tmp_path, lambda rows: None))
    with elsewhere.read() as connection:
        (row,) = connection.execute(select(tables.judge))
    assert (row.identity, row.input_price, row.output_price) == ("kind (v1)", None, None)
    assert judgements.calibrated(elsewhere, row.id) == {}
    assert len(judgements.judged(elsewhere, row.id, "first")) == 1
    assert spent_on(elsewhere, "first") == spent_on(moved, "first") == spent


def test_prices_below_0_are_refused(refusal: Callable[..., str]) -> None:
    """They would make room in the budget."""
    served = {"run": "first", "model": "model-a", "versions": {}}

    def change(rows: Rows) -> None:
        rows["served"].append({**served, "description": {"input_price": "-1", "output_price": "0"}})

    told = "served.jsonl, line 1: description: expected texts, prices being numbers"
    assert told in refusal(change)


def test_what_looks_like_an_escape_is_text(moved: Database, elsewhere: Database, tmp_path: Path) -> None:
    """A model may write of half characters; only those that are some cannot be stored."""
    said = r"\ud800 \u0000 😀"
    file = remade(moved, tmp_path, first("answer", completion=said, digest=digest(said)))
    import_bundle(elsewhere, file)
    assert said in {row["completion"] for row in answer_rows(elsewhere, "first")}


def test_little_is_held_in_memory(
    moved: Database, elsewhere: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_LINE_MAX", 20_000)
    file = remade(moved, tmp_path, first("answer", completion="x" * 20_000))
    assert "answer.jsonl: expected rows of at most 20,000 bytes, got a longer one" in refused(elsewhere, file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
        whole.writestr("manifest.json", b"[" + b" " * 2**20 + b"]")
    assert "expected a manifest of at most 1,048,576 bytes, got more" in refused(elsewhere, file)


def test_what_people_read_comes_along(moved: Database, elsewhere: Database, tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        read_as("answered", [1])(rows)
        (row,) = rows["reading"]
        rows["reading"] += [row | {"digest": 1, "choices": [4]}, row | {"item": 7}]

    import_bundle(elsewhere, remade(moved, tmp_path, change))
    with elsewhere.read() as connection:
        assert len(connection.execute(select(tables.reading)).all()) == 3
