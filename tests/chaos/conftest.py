"""Machines to disturb, what an undisturbed run exports, and the table of all that was done to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.chaos.machine import ChaosMachine, chaos_machine, finish_well
from tests.chaos.postgres import PostgresServer, postgres
from tests.chaos.table import Row, markdown

_rows: list[Row] = []
_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server; a test that stops it starts it again."""
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChaosMachine]:
    """A machine of the test's own, on either database."""
    url = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("server")
        url = server.create(f"chaos_{next(_numbers)}")
    with chaos_machine(tmp_path / "machine", url) as own:
        yield own


@pytest.fixture
def sqlite_machine(tmp_path: Path) -> Iterator[ChaosMachine]:
    """A machine of the test's own, on SQLite."""
    with chaos_machine(tmp_path / "machine") as own:
        yield own


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """What every run has to export, whatever happens to it: an undisturbed one did."""
    with chaos_machine(tmp_path_factory.mktemp("undisturbed") / "machine") as quiet:
        finish_well(quiet.start("run", "study.yaml"))
        exported = quiet.export_bytes()
        quiet.conclude("nothing", exported)
        yield exported


@pytest.fixture
def record() -> Callable[[Row], None]:
    """Takes up a row of the table."""
    return _rows.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; also into the file that ``CHAOS_TABLE`` names."""
    if not _rows:
        return
    table = markdown(_rows)
    terminalreporter.section("faults")
    terminalreporter.write(table)
    if path := os.environ.get("CHAOS_TABLE"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(table)
