"""A run moved as one file comes out as it went in, on whatever database."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from defsurvey.storage.database import Database
from defsurvey.storage.runs import archive, outbox, store
from defsurvey.storage.runs.archive import BadBundle, export_bundle, import_bundle
from defsurvey.storage.runs.export import answer_rows
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.recovery import ask_again
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import record_served
from defsurvey.storage.schema import migrate
from tests.storage.small_run import answer, claimed, finish, new_cell, started
from tests.storage.what_is_there import progress_of


@pytest.fixture
def elsewhere(tmp_path: Path) -> Database:
    """An empty database on another machine, with a run of its own so that keys differ."""
    database = Database(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    migrate(database)
    started(database, new_cell(participants=3), id="other")
    return database


def half_done(database: Database, ledger: Ledger) -> None:
    """A run with a finished, a half-finished and a waiting participant, one answer of which failed."""
    first, second, _ = started(database, new_cell(participants=3))
    finish(ledger, first)
    held = claimed(ledger, second)
    ledger.checkpoint(held, answer(held, 0, completion='="1"\n选项\x00'), (0,))
    ledger.checkpoint(held, answer(held, 1, state=AnswerState.FAILED, reason="gone"), (0,))
    record_served(database, "first", "model-a", {"weights": "abc"}, {"numpy": "2"})
    ask_again(database, "first", [AnswerState.FAILED])


def test_a_run_comes_out_as_it_went_in(database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path) -> None:
    """Answers, progress, design, what served it and what is to be asked again are the same; leases stay behind."""
    half_done(database, ledger)
    file = tmp_path / "run.bundle"
    assert export_bundle(database, "first", file) == 5
    with elsewhere:
        assert import_bundle(elsewhere, file) == "first"
        assert list(answer_rows(elsewhere, "first", telemetry=True)) == list(
            answer_rows(database, "first", telemetry=True)
        )
        assert progress_of(elsewhere, "first") == progress_of(database, "first")
        assert store.design_of(elsewhere, "first") == store.design_of(database, "first")
        assert outbox.revision(elsewhere, "first") == outbox.revision(database, "first")
        survey = store.load_run(elsewhere, "first").survey
        assert store.load_survey(elsewhere, survey) == store.load_survey(database, survey)
        assert outbox.waiting(elsewhere, "first") == 2
        other = Ledger(elsewhere, owner="other:1:here")
        held = claimed(other, outbox.outgoing(elsewhere, run="first")[0].participant)
        assert [(again.item, attempt) for again, attempt in other.to_ask_again(held)] == [(1, 1)]


def test_the_longest_reply_comes_along(database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path) -> None:
    """A server may send 16 MiB, and quotes and line breaks take twice their room in a file."""
    said, file = '"\n' * 2**21 + "x" * 2**20, tmp_path / "run.bundle"
    held = claimed(ledger, started(database, new_cell())[0])
    ledger.checkpoint(held, answer(held, 0, completion=said), (0,))
    export_bundle(database, "first", file)
    with elsewhere:
        import_bundle(elsewhere, file)
        assert [row["completion"] for row in answer_rows(elsewhere, "first")] == [said]


@pytest.mark.parametrize("batch", [1000, 2])
def test_an_import_takes_few_statements(
    database: Database,
    ledger: Ledger,
    elsewhere: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    """Nobody else writes meanwhile: rows go in by the batch, and stay with their participants all the same."""
    half_done(database, ledger)
    file = tmp_path / "run.bundle"
    assert export_bundle(database, "first", file) == 5
    monkeypatch.setattr(archive, "_BATCH", batch)
    statements: list[str] = []

    @event.listens_for(elsewhere.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    with elsewhere:
        import_bundle(elsewhere, file)
        made = sum(statement.startswith("INSERT INTO answer") for statement in statements)
        assert made == {1000: 1, 2: 3}[batch]
        assert (
            sum(statement.startswith("INSERT INTO participant") for statement in statements) == {1000: 1, 2: 2}[batch]
        )
        assert list(answer_rows(elsewhere, "first", telemetry=True)) == list(
            answer_rows(database, "first", telemetry=True)
        )


def test_a_run_that_is_here_already_is_not_imported(database: Database, ledger: Ledger, tmp_path: Path) -> None:
    """Nothing is mixed: the file is refused and what is here stays."""
    half_done(database, ledger)
    file = tmp_path / "run.bundle"
    export_bundle(database, "first", file)
    before = list(answer_rows(database, "first", telemetry=True))
    with pytest.raises(BadBundle, match="run first is here already"):
        import_bundle(database, file)
    assert list(answer_rows(database, "first", telemetry=True)) == before


def _altered(database: Database, folder: Path, member: str, before: bytes, after: bytes) -> Path:
    """A bundle of the run of which one member says something else."""
    file, damaged = folder / "run.bundle", folder / "damaged.bundle"
    export_bundle(database, "first", file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(before, after) if name == member else content)
    return damaged


def test_a_damaged_file_leaves_nothing_behind(
    database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path
) -> None:
    """A changed answer is noticed by its hash, and the whole import is taken back."""
    half_done(database, ledger)
    damaged = _altered(database, tmp_path, "answer.jsonl", b"gone", b"fine")
    with elsewhere:
        with pytest.raises(BadBundle, match=r"answer\.jsonl is damaged"):
            import_bundle(elsewhere, damaged)
        assert store.run_ids(elsewhere) == ["other"]


def _damaged(content: bytes, name: str, damage: str) -> bytes:
    """An archive of which one member's data, or what the directory says of it, was changed."""
    changed = bytearray(content)
    entry = content.rindex(name.encode(), 0, content.rindex(b"PK\x05\x06")) - 46  # of the directory, at the end
    data = 30 + content.index(name.encode()) - 30 + len(name)
    assert content[entry : entry + 4] == b"PK\x01\x02"
    match damage:
        case "packed otherwise":
            changed[entry + 10] = 99
        case "encrypted":
            changed[entry + 8] |= 1
        case "unpacks to nothing":
            extra = int.from_bytes(content[data - len(name) - 2 : data - len(name)], "little")
            changed[data + extra] = 0b111  # a last block of a kind that does not exist
        case "cut off":
            del changed[entry:]
    return bytes(changed)


@pytest.mark.parametrize("damage", ["packed otherwise", "encrypted", "unpacks to nothing", "cut off"])
def test_damage_that_the_archive_itself_notices_is_told(
    database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path, damage: str
) -> None:
    """Whichever way it is noticed, by the directory or while a member is unpacked."""
    half_done(database, ledger)
    file = tmp_path / "run.bundle"
    export_bundle(database, "first", file)
    file.write_bytes(_damaged(file.read_bytes(), "answer.jsonl", damage))
    with elsewhere:
        with pytest.raises(BadBundle, match="is no bundle of a run: "):
            import_bundle(elsewhere, file)
        assert store.run_ids(elsewhere) == ["other"]


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_is_packed_as_ours_is_unpacked(
    database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path, packed: int
) -> None:
    """Other ways tell of damage by errors of their own."""
    half_done(database, ledger)
    file, other = tmp_path / "run.bundle", tmp_path / "other.bundle"
    export_bundle(database, "first", file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w", packed) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with elsewhere:
        with pytest.raises(BadBundle, match=r"is no bundle of a run: survey\.jsonl is packed in another way than ours"):
            import_bundle(elsewhere, other)
        assert store.run_ids(elsewhere) == ["other"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_bundle_is_as_private_as_other_files(
    database: Database, ledger: Ledger, tmp_path: Path, umask: int, mode: int
) -> None:
    """What the account leaves others of a new file, it leaves them of this one."""
    half_done(database, ledger)
    before = os.umask(umask)
    try:
        export_bundle(database, "first", tmp_path / "run.bundle")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run.bundle").stat().st_mode) == mode
    assert [file.name for file in tmp_path.glob("*run.bundle*")] == ["run.bundle"]


def test_damage_is_noticed_before_a_row_is_written(
    database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path
) -> None:
    """What a damaged row says may be anything, such as a column that is not there."""
    half_done(database, ledger)
    damaged = _altered(database, tmp_path, "cell.jsonl", b'"model"', b'"modem"')
    with elsewhere, pytest.raises(BadBundle, match=r"cell\.jsonl is damaged"):
        import_bundle(elsewhere, damaged)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"no archive", "is no bundle"), (b"{}", "is no bundle")],
)
def test_what_is_no_bundle_is_refused(elsewhere: Database, tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing file and one of another kind are told apart."""
    file = tmp_path / "run.bundle"
    if content is not None:
        file.write_bytes(content)
    with elsewhere, pytest.raises(BadBundle, match=message):
        import_bundle(elsewhere, file)


def test_a_bundle_of_another_version_is_refused(elsewhere: Database, tmp_path: Path) -> None:
    """What this version cannot read is said with both versions."""
    file = tmp_path / "run.bundle"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", '{"format": 99, "schema": "0001"}')
    with elsewhere, pytest.raises(BadBundle, match=r"expected format 1 and schema \d+, got \[99, '0001'\]"):
        import_bundle(elsewhere, file)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"members": ["cell", "answer"]}, "expected members survey, run, .*, got \\['cell', 'answer'\\]"),
        ({"members": None}, "expected members survey, run, .*, got None"),
        ({"members": {"cell": {"rows": 0, "sha256": ""}}}, "expected members survey, run, .*, got .*'cell'"),
        ({"cell": None}, "member cell: expected rows and sha256, got None"),
        ({"cell": [1]}, "member cell: expected rows and sha256, got \\[1\\]"),
        ({"cell": {"rows": 1}}, "member cell: expected rows and sha256, got .*'rows': 1"),
        ({"run": ["first"]}, "expected the id of a run, .*, got \\['first'\\]"),
        ({"run": None}, "expected the id of a run, .*, got None"),
    ],
)
def test_a_manifest_that_is_not_as_it_was_written_is_refused(
    database: Database, ledger: Ledger, elsewhere: Database, tmp_path: Path, changed: Any, message: str
) -> None:
    """Whatever stands in the place of the members, of one of them, or of the run; nothing is written."""
    half_done(database, ledger)
    file = tmp_path / "run.bundle"
    export_bundle(database, "first", file)
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    before = json.dumps(manifest, indent=2).encode()
    if "cell" in changed:
        manifest["members"] |= changed
    else:
        manifest |= changed
    damaged = _altered(database, tmp_path, "manifest.json", before, json.dumps(manifest).encode())
    with elsewhere:
        with pytest.raises(BadBundle, match=f"damaged.bundle: {message}"):
            import_bundle(elsewhere, damaged)
        assert store.run_ids(elsewhere) == ["other"]


def test_an_export_that_fails_leaves_no_file(database: Database, tmp_path: Path) -> None:
    """The file appears whole or not at all."""
    with pytest.raises(store.UnknownRun, match="there is no run 'nowhere'"):
        export_bundle(database, "nowhere", tmp_path / "run.bundle")
    assert list(tmp_path.glob("*bundle*")) == []
