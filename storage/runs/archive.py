"""A run as one file, to be moved between machines and databases.

A zip archive of JSON lines, one member per table, and a manifest with the format, the schema's revision and a SHA-256
of every member. Keys are given anew on import. Memory does not grow with the run. Leases, messages and workers stay
behind, and so do the calibrations of judges: what they say decides who may judge the runs of this database.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from json import dumps
from pathlib import Path
from typing import IO, Any

from sqlalchemy import ColumnElement, Connection, Select, and_, insert, select
from sqlalchemy.exc import DataError, IntegrityError
from sqlmodel import SQLModel

from defsurvey.storage import schema
from defsurvey.storage.database import Database, insert_new
from defsurvey.storage.errors import BadInput
from defsurvey.storage.files import write_whole
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.archive_rows import Misfit, RowReader, parse
from defsurvey.storage.runs.ledger import NOBODYS
from defsurvey.storage.runs.run import NAME, NAME_RULE, Run
from defsurvey.storage.text import in_one_line

#: Version of the file's own layout.
FORMAT = 1
#: Tables that hold a run, in the order in which they are imported.
_TABLES = (
    *("survey", "run", "cell", "served", "participant", "answer", "step", "option_probability", "probe", "again"),
    *("judge", "judging", "judgement", "label", "reading"),
)
#: Table whose rows are given keys anew -> columns by which its rows are known.
_KEYED = {
    "cell": ("run", "model", "culture", "condition_name", "language"),
    "participant": ("cell", "number"),
    "judge": ("identity",),
}
#: Tables whose rows may be here already, from another run.
_SHARED = ("survey", "judge")
#: Table -> key in the file -> key here.
_Keys = dict[str, dict[int | None, int | None]]
_MANIFEST = "manifest.json"
#: Longest manifest that is read: one names fewer than twenty members.
_MANIFEST_MAX = 2**20
#: Rows read or written at a time: one by one, an import would keep everybody else from writing for minutes.
_BATCH = 250
#: What reading a damaged archive raises; RuntimeError: of an entry that seems encrypted, or packed in an unknown way.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, KeyError, ValueError, OverflowError)
#: How members are packed; what else the library unpacks tells of damage by errors of its own.
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: Longest line of a member that is read. A reply may have 16 MiB and its line more, quotes and line breaks being two
#: signs there; a survey with its references has less.
_LINE_MAX = 64 * 2**20


class BadBundle(BadInput, ValueError):
    """A file is no bundle of a run, or not one that this version reads; the message says what is wrong."""


def export_bundle(database: Database, run: str, path: Path) -> int:
    """Write a run to a file, which appears whole or not at all. Returns the number of answers in it."""
    answers = 0

    def write(target: IO[bytes]) -> None:
        nonlocal answers
        with database.read() as connection, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            members = {name: _write(archive, name, _rows(connection, _part(name, run))) for name in _TABLES}
            manifest = {"format": FORMAT, "schema": schema.HEAD, "run": run, "members": members}
            archive.writestr(_MANIFEST, dumps(manifest, indent=2))
        answers = int(members["answer"]["rows"])

    store.design_of(database, run)  # before anything is written
    write_whole(path, write)
    return answers


def import_bundle(database: Database, path: Path, *, check: Callable[[Run], None] = lambda _run: None) -> str:
    """Read a run from a file in one transaction, undone by what ``check`` raises. Returns its id; raises BadBundle."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BadBundle(f"{path}: there is no such file") from None
    except (*_DAMAGED, IsADirectoryError) as error:
        raise _bad(path, f"is no bundle of a run: {error}") from error
    with archive:
        try:
            manifest = _manifest(archive, path)
            for name in manifest["members"]:  # before anything is written: what a damaged row says may be anything
                for _ in _lines(archive, name, manifest["members"][name], path):
                    pass
        except BadBundle:
            raise
        except _DAMAGED as error:
            raise _bad(path, f"is no bundle of a run: {error}") from error
        try:
            database.write(lambda connection: check(_import(connection, archive, manifest, path)))
        except (IntegrityError, DataError) as error:
            if store.has_run(database, manifest["run"]):  # another import of it was quicker
                raise _bad(path, f"run {manifest['run']} is here already") from None
            raise _bad(path, f"its rows contradict each other, or cannot be stored: {error.orig}") from None
    return str(manifest["run"])


def _bad(path: Path, told: str) -> BadBundle:
    """The error that tells of a file; what it quotes may hold anything."""
    return BadBundle(f"{path}: {in_one_line(told)}")


def _part(name: str, run: str) -> Select[Any]:
    """The rows of a table that belong to a run."""
    table = SQLModel.metadata.tables[name]
    of_run = select(tables.participant.c.id).where(tables.participant.c.run == run)
    j, g = tables.judgement.c, tables.judging.c
    judges = select(j.judge).where(j.participant.in_(of_run)).union(select(g.judge).where(g.run == run))
    mine: ColumnElement[bool]
    if name == "survey":
        mine = table.c.fingerprint.in_(select(tables.run.c.survey).where(tables.run.c.id == run))
    elif name == "judge":
        mine = table.c.id.in_(judges)
    elif "participant" in table.c:
        mine = table.c.participant.in_(of_run)
    else:
        mine = (table.c.id if name == "run" else table.c.run) == run
    return select(table).where(mine).order_by(*table.primary_key)


def _rows(connection: Connection, query: Select[Any]) -> Iterator[dict[str, Any]]:
    for row in connection.execute(query.execution_options(yield_per=_BATCH)).mappings():
        yield dict(row)


def _write(archive: zipfile.ZipFile, name: str, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    digest, count = hashlib.sha256(), 0
    with archive.open(f"{name}.jsonl", "w", force_zip64=True) as member:
        for row in rows:
            line = dumps(row, ensure_ascii=False, sort_keys=True).encode() + b"\n"
            digest.update(line)
            member.write(line)
            count += 1
    return {"rows": count, "sha256": digest.hexdigest()}


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    for entry in archive.infolist():
        if entry.compress_type not in _PACKED:
            raise _bad(path, f"is no bundle of a run: {entry.filename} is packed in another way than ours")
    with archive.open(_MANIFEST) as member:
        written = member.read(_MANIFEST_MAX + 1)
    if len(written) > _MANIFEST_MAX:
        raise _bad(path, f"expected a manifest of at most {_MANIFEST_MAX:,} bytes, got more")
    manifest = parse(written)
    told = manifest if isinstance(manifest, dict) else {}
    if (told.get("format"), told.get("schema")) != (FORMAT, schema.HEAD):
        found = [told.get("format"), told.get("schema")]
        raise _bad(path, f"expected format {FORMAT} and schema {schema.HEAD}, got {found}")
    run, members = told.get("run"), told.get("members")
    if not isinstance(run, str) or not NAME.fullmatch(run):
        raise _bad(path, f"expected the id of a run, {NAME_RULE}, got {run!r}")
    if not isinstance(members, dict) or members.keys() != set(_TABLES):
        raise _bad(path, f"expected members {', '.join(_TABLES)}, got {members}")
    for name, member in members.items():
        if not isinstance(member, dict) or not {"rows", "sha256"} <= member.keys():
            raise _bad(path, f"member {name}: expected rows and sha256, got {member}")
    return told


def _import(connection: Connection, archive: zipfile.ZipFile, manifest: dict[str, Any], path: Path) -> Run:
    run = manifest["run"]
    if connection.execute(select(tables.run.c.id).where(tables.run.c.id == run)).one_or_none() is not None:
        raise _bad(path, f"run {run} is here already")
    keys: _Keys = {name: {None: None} for name in _KEYED}
    reader = RowReader(run=run)
    for name in _TABLES:
        number = 0
        try:
            lines = _lines(archive, name, manifest["members"][name], path)
            while some := list(islice(lines, _BATCH)):
                rows = []
                for line in some:
                    number += 1
                    rows.append(_here(name, reader.read(name, line), keys))
                _insert(connection, name, rows, keys)
            if name == "run" and not reader.read_run:
                raise Misfit(f"expected run {run}, got none")
        except Misfit as error:
            raise _bad(path, f"{name}.jsonl, line {number}: {error}") from None
    try:
        _check_readings(connection, reader)
    except Misfit as error:
        raise _bad(path, f"reading.jsonl: {error}") from None
    return store.run_in(connection, run)


def _check_readings(connection: Connection, reader: RowReader) -> None:
    """Hold what people read against the questions answered, which the rows of readings do not name; raises Misfit."""
    a, r, p = tables.answer.c, tables.reading.c, tables.participant.c
    same = and_(r.participant == a.participant, r.item == a.item, r.slot == a.slot)
    of_run = select(p.id).where(p.run == reader.run)
    query = select(a.question, r.choices).join_from(tables.reading, tables.answer, same)
    for row in _rows(connection, query.where(r.participant.in_(of_run))):
        reader.check_choices(row["question"], row["choices"])


def _lines(archive: zipfile.ZipFile, name: str, expected: dict[str, Any], path: Path) -> Iterator[bytes]:
    """The rows of a member as they were written; raises BadBundle at its end where they are not those."""
    digest, count = hashlib.sha256(), 0
    with archive.open(f"{name}.jsonl") as member:
        while line := member.readline(_LINE_MAX + 1):
            if len(line) > _LINE_MAX:
                raise _bad(path, f"{name}.jsonl: expected rows of at most {_LINE_MAX:,} bytes, got a longer one")
            digest.update(line)
            count += 1
            yield line
    if digest.hexdigest() != expected["sha256"] or count != expected["rows"]:
        raise _bad(path, f"{name}.jsonl is damaged: {count} rows of {expected['rows']}, or other content")


def _insert(connection: Connection, name: str, rows: list[dict[str, Any]], keys: _Keys) -> None:
    """Insert rows of a table at once; ``keys`` learns those that are given anew."""
    table = SQLModel.metadata.tables[name]
    before = [row.pop("id") for row in rows] if name in keys else []
    if name in _SHARED:
        for row in rows:
            insert_new(connection, table, row)
    else:
        connection.execute(insert(table), rows)
    if name in keys:
        known_by = [table.c[column] for column in _KEYED[name]]
        those = known_by[0].in_({row[known_by[0].name] for row in rows})
        given = {tuple(row[1:]): row.id for row in connection.execute(select(table.c.id, *known_by).where(those))}
        after = (given[tuple(row[column.name] for column in known_by)] for row in rows)
        keys[name].update(zip(before, after, strict=True))


def _here(name: str, row: dict[str, Any], keys: _Keys) -> dict[str, Any]:
    """A row with the keys that its owners were given here, as nobody's; raises Misfit where those are not there."""
    for owner in keys:
        if owner in row and name != "run":  # of a run it is the judge that its study asks for, no key
            if row[owner] not in keys[owner]:
                raise Misfit(f"{owner}: expected one that the run has, got {row[owner]}")
            row[owner] = keys[owner][row[owner]]
    if name == "participant":
        row |= NOBODYS
    return row
