"""Machines for the tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.machine import Machine, machine_in


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with machine_in(tmp_path / "machine") as own:
        yield own


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine_in(tmp_path_factory.mktemp("undisturbed") / "machine") as quiet:
        finished = quiet.type("run", "study.yaml")
        assert finished.returncode == 0, finished.stderr
        quiet.first_output = finished.stdout
        yield quiet


@pytest.fixture(scope="session")
def expected(undisturbed: Machine) -> list[str]:
    return undisturbed.export()
