"""Bundles that anybody may have written: their hashes are right, and what they say is not."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import archive, judgements, store, tables
from defsurvey.storage.runs.archive import export_bundle, import_bundle
from defsurvey.storage.runs.budget import spent as spent_on
from defsurvey.storage.runs.export import answer_rows
from defsurvey.storage.runs.judgement import DIMENSIONS, Finding, Judgement, JudgeName, Verdict
from defsurvey.storage.runs.rows import digest
from defsurvey.storage.surveys.as_json import fingerprint, survey_from_json
from defsurvey.storage.surveys.problem import SurveyError
from tests.storage.remade_bundle import Change, Rows, another, first, refused, remade, to_be_moved
from tests.storage.small_run import SURVEY

VALUE = {"dimension": "EVI", "direction": 1, "basis": "B", "core": False}


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """The run to be moved."""
    with to_be_moved(sqlite_url) as opened:
        yield opened


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Database]:
    """Another database with a run of its own."""
    with another(tmp_path) as opened:
        yield opened


def renamed(run: Any) -> Change:
    """Every row is of a run of another name."""

    def change(rows: Rows) -> None:
        for name, some in rows.items():
            for row in some:
                row |= {"id": run} if name == "run" else {"run": run} if "run" in row else {}

    return change


@pytest.mark.parametrize(
    "run",
    ["/tmp/victim", "../../evil", "", "a" * 300, "a\0b", "x[/red]y", "\x1b]0;pwned\x07", "a\ud800b", "First", "."],
)
def test_a_run_has_a_name_that_a_study_could_give(
    database: Database, elsewhere: Database, tmp_path: Path, run: str
) -> None:
    """Reports are written to a folder of that name."""
    message = refused(elsewhere, remade(database, tmp_path, renamed(run), run=run))
    assert (
        "expected the id of a run, a name of at most 64 lower-case letters" in message or "half a character" in message
    )


#: What is changed -> what the message must contain
MISTAKES: dict[str, tuple[Change, str]] = {
    "another run": (first("run", id="second"), "run.jsonl, line 1: id: expected the run first alone, got 'second'"),
    "two runs": (
        lambda rows: rows["run"].append(rows["run"][0]),
        "run.jsonl, line 2: id: expected the run first alone",
    ),
    "no run": (lambda rows: rows["run"].clear(), "run.jsonl, line 0: expected run first, got none"),
    "a cell of another run": (first("cell", run="other"), "cell.jsonl, line 1: run: expected first, got 'other'"),
    "no survey": (lambda rows: rows["survey"].clear(), "survey: expected the one in the file, got another"),
    "no survey in the body": (
        first("survey", body={}),
        "survey.jsonl, line 1: stored survey: expected form 1, got None",
    ),
    "a list": (lambda rows: rows["answer"].__setitem__(0, [1]), "line 1: expected the columns participant, item, slot"),
    "a number of 5,000 digits": (
        lambda rows: rows["answer"].__setitem__(0, b"1" * 5000 + b"\n"),
        "answer.jsonl, line 1: expected JSON, got something else (Exceeds the limit",
    ),
    "brackets": (lambda rows: rows["answer"].append(b"[" * 99_999 + b"\n"), "answer.jsonl, line 5: expected JSON"),
    "no UTF-8": (lambda rows: rows["answer"].append(b'"\xff"\n'), "answer.jsonl, line 5: expected JSON, got something"),
    "no number": (lambda rows: rows["answer"].append(b'{"seconds": NaN}\n'), "NaN is no finite number"),
    "a column too many": (first("answer", nope=1), "answer.jsonl, line 1: expected the columns"),
    "a seed beyond all": (first("answer", seed=10**30), "seed: expected a number below 9223372036854775808, got 1"),
    "a seed in words": (first("answer", seed="x"), "answer.jsonl, line 1: seed: expected a whole number, got 'x'"),
    "a reply that is none": (first("answer", completion=5), "completion: expected a text, got 5"),
    "half a character": (first("answer", completion="\ud800"), "expected text that can be stored, got a NUL or half"),
    "a NUL": (first("answer", draws={"region": "\0"}), "expected text that can be stored, got a NUL or half"),
    "choices in a text": (first("answer", choices="abc"), "choices: expected a list, got 'abc'"),
    "choices that are none": (first("answer", choices=[99]), "choices: expected options of A, got [99]"),
    "options that are none": (first("answer", shown=[99]), "shown: expected some options of A, each once, got [99]"),
    "another question": (first("answer", question="Z"), "question: expected one that the run has, got 'Z'"),
    "a state of no answer": (
        first("answer", state="whatever"),
        "state: expected one of answered, refused, unparsable, failed, got",
    ),
    "draws of nothing": (
        first("answer", draws={}),
        "draws.region: expected a key 'region', got none",
    ),
    "beams in words": (first("answer", used={"num_beams": "3"}), "used.num_beams: expected a whole number, got '3'"),
    "nobody's answer": (first("answer", participant=999), "participant: expected one that the run has, got 999"),
    "an answer twice": (lambda rows: rows["answer"].append(rows["answer"][0]), "its rows contradict each other"),
    "an id that is none": (first("cell", id={}), "cell.jsonl, line 1: id: expected a whole number, got {}"),
    "another culture": (first("cell", culture="xx"), "culture: expected one that the run has, got 'xx'"),
    "a model with an escape": (first("cell", model="a\x1b[2J"), "model: expected a text without control characters"),
    "a condition that is none": (
        first("cell", condition={"name": "def", "method": 7}),
        "condition.method: expected a text, got 7",
    ),
    "no status": (first("participant", status="whatever"), "status: expected one of open, finished, quarantined, got"),
    "tokens below 0": (
        first("participant", prompt_tokens=-1),
        "prompt_tokens: expected a number of at least 0, got -1",
    ),
    "made at no time": (first("run", created_at="x"), "run.jsonl, line 1: created_at: expected a number, got 'x'"),
    "made in no year": (first("run", created_at=1e300), "created_at: expected a number below 2.53402e+11, got 1e+300"),
    "questions of no survey": (first("run", questions=["Z"]), "questions: expected questions of the survey, got 'Z'"),
    "a judge of another kind": (first("run", judge=[1]), "judge: expected an object, got [1]"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_no_run_can_hold_is_refused(database: Database, elsewhere: Database, tmp_path: Path, mistake: str) -> None:
    """One error that says where, and nothing half imported."""
    change, told = MISTAKES[mistake]
    assert told in refused(elsewhere, remade(database, tmp_path, change))


def other_shares(body: dict[str, Any]) -> dict[str, Any]:
    """A stored survey whose people all chose the first option."""
    references = [
        {**reference, "shares": [[code, float(not place)] for place, (code, _) in enumerate(reference["shares"])]}
        for reference in body["references"]
    ]
    return {**body, "references": references}


@pytest.mark.parametrize("beside", [False, True], ids=["in its place", "beside it"])
def test_a_survey_is_the_one_of_its_fingerprint(
    database: Database, elsewhere: Database, tmp_path: Path, beside: bool
) -> None:
    """Else figures of a bundle's making would be those of every later run of that survey."""

    def change(rows: Rows) -> None:
        (row,) = rows["survey"]
        rows["survey"] = [*([row] if beside else []), {**row, "body": other_shares(row["body"])}]

    told = "fingerprint: expected that of the one survey of the run, got another"
    assert told in refused(elsewhere, remade(database, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda body: body.update(title=5), "title"),
        (lambda body: body["questions"][0]["options"][1].update(code="2"), "questions[1].options[2].code"),
        (
            lambda body: body["questions"][0]["text"].update(en="\u2068What?\u2069"),
            "questions[1].text.en (a control character, U+2068)",
        ),
        (
            lambda body: body["questions"][0].update(value={**VALUE, "dimension": "E\x1b[2J"}),
            "questions[1].value.dimension (a control character, U+001B)",
        ),
        (lambda body: body["questions"][0].update(value={**VALUE, "direction": "1"}), "questions[1].value.direction"),
        (lambda body: body["questions"][0]["options"][1].update(code=1), "the options of A"),
        (lambda body: body["questions"][0]["text"].pop("en"), "the languages of A"),
        (lambda body: body["references"][0].update(n=0), "the references of A"),
        (lambda body: body["references"][0].update(culture="xx"), "the references of A"),
        (lambda body: body["questions"].append(body["questions"][0]), "its ids"),
    ],
)
def test_a_survey_that_could_not_be_asked_is_refused(
    database: Database, elsewhere: Database, tmp_path: Path, change: Callable[[Any], object], where: str
) -> None:
    """Also where its fingerprint is that of what it says."""

    def changed(rows: Rows) -> None:
        (row,) = rows["survey"]
        change(row["body"])
        with suppress(SurveyError):
            row["fingerprint"] = row["body"]["fingerprint"] = fingerprint(survey_from_json(row["body"]))
        rows["run"][0]["survey"] = row["fingerprint"]

    told = f"got another value at {where}"
    assert told in refused(elsewhere, remade(database, tmp_path, changed))


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
    database: Database, elsewhere: Database, tmp_path: Path, prices: tuple[float, float] | None, spent: float
) -> None:
    """It has not been calibrated and has no price here; what it said of the run, and what that cost, has come too."""
    judged(database, prices)

    import_bundle(elsewhere, remade(database, tmp_path, lambda rows: None))
    with elsewhere.read() as connection:
        (row,) = connection.execute(select(tables.judge))
    assert (row.identity, row.input_price, row.output_price) == ("kind (v1)", None, None)
    assert judgements.calibrated(elsewhere, row.id) == {}
    assert len(judgements.judged(elsewhere, row.id, "first")) == 1
    assert spent_on(elsewhere, "first") == spent_on(database, "first") == spent


def test_prices_below_0_are_refused(database: Database, elsewhere: Database, tmp_path: Path) -> None:
    """They would make room in the budget."""
    served = {"run": "first", "model": "model-a", "versions": {}}

    def change(rows: Rows) -> None:
        rows["served"].append({**served, "description": {"input_price": "-1", "output_price": "0"}})

    told = "served.jsonl, line 1: description: expected texts, prices being numbers"
    assert told in refused(elsewhere, remade(database, tmp_path, change))


def test_what_looks_like_an_escape_is_text(database: Database, elsewhere: Database, tmp_path: Path) -> None:
    """A model may write of half characters; only those that are some cannot be stored."""
    said = r"\ud800 \u0000 😀"
    file = remade(database, tmp_path, first("answer", completion=said, digest=digest(said)))
    import_bundle(elsewhere, file)
    assert said in {row["completion"] for row in answer_rows(elsewhere, "first")}


def test_little_is_held_in_memory(
    database: Database, elsewhere: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest and a row have their largest sizes, and rows are taken together by their bytes as well."""
    assert list(map(len, archive._batches(iter([b"x" * 2**20] * 9)))) == [4, 4, 1]
    monkeypatch.setattr(archive, "_LINE_MAX", 20_000)
    file = remade(database, tmp_path, first("answer", completion="x" * 20_000))
    assert "answer.jsonl: expected rows of at most 20,000 bytes, got a longer one" in refused(elsewhere, file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
        whole.writestr("manifest.json", b"[" + b" " * 2**20 + b"]")
    assert "expected a manifest of at most 1,048,576 bytes, got more" in refused(elsewhere, file)


def test_a_link_or_a_pipe_stays_where_a_bundle_is_written(
    database: Database, elsewhere: Database, tmp_path: Path
) -> None:
    """What it leads to is written, whole."""
    file, link, pipe = tmp_path / "there" / "run.bundle", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(file)
    assert export_bundle(database, "first", link) == 4
    assert (link.is_symlink(), file.is_file()) == (True, True)
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert export_bundle(database, "first", pipe) == 4
    reader.join(timeout=10)
    assert pipe.is_fifo()
    file.write_bytes(found[0])
    assert import_bundle(elsewhere, file) == "first"
    assert store.load_survey(elsewhere, SURVEY.fingerprint) == SURVEY
