"""Machines to disturb, what an undisturbed run exports, and the table of all that was done to them."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.chaos.machine import ChaosMachine, Row, chaos_machine, finish_well, markdown
from tests.storage.postgres import PostgresServer, running_server

#: What was committed survives the server's death; only a power loss is not tested, so nothing is flushed to the disk.
SETTINGS = ("listen_addresses=", "fsync=off", "synchronous_commit=on", "max_connections=200")
_rows: list[Row] = []
_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with running_server(SETTINGS) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChaosMachine]:
    url = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("server")
        url = server.create(f"chaos_{next(_numbers)}")
    with chaos_machine(tmp_path / "machine", url) as own:
        yield own


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with chaos_machine(tmp_path_factory.mktemp("undisturbed") / "machine") as quiet:
        finish_well(quiet.start("run", "study.yaml"))
        exported = quiet.export_bytes()
        quiet.conclude("nothing", exported)
        return exported


@pytest.fixture
def conclude(machine: ChaosMachine, expected: bytes) -> Callable[..., Row]:
    """Holds what was promised against what is there after a fault of that name, which makes a row of the table."""

    def check(fault: str, **options: object) -> Row:
        _rows.append(machine.conclude(fault, expected, **options))  # type: ignore[arg-type]
        return _rows[-1]

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _rows:
        return
    table = markdown(_rows)
    terminalreporter.section("faults")
    terminalreporter.write(table)
    if path := os.environ.get("CHAOS_TABLE"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(table)
