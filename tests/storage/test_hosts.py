"""Hosts: equal names are not equal hosts, and the name stays in front for people to read."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from defsurvey.storage import hosts
from defsurvey.storage.hosts import host


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """Files in place of those of Linux: what it says of its boot, and the numbering of processes."""
    boot, numbering = tmp_path / "boot_id", tmp_path / "pid"
    boot.write_text("2f1c0a52-0001\n", encoding="ascii")
    numbering.touch()
    monkeypatch.setattr(hosts, "_BOOT", boot)
    monkeypatch.setattr(hosts, "_NUMBERING", numbering)
    hosts._mark.cache_clear()
    yield boot, numbering
    hosts._mark.cache_clear()


def test_a_host_has_its_name_and_a_mark(places: tuple[Path, Path]) -> None:
    """Eight digits behind the name."""
    assert re.fullmatch(rf"{re.escape(socket.gethostname())}:[0-9a-f]{{8}}", host())


def test_every_process_of_a_host_says_the_same() -> None:
    """Or nobody could tell who of it has died."""
    told = subprocess.run(
        [sys.executable, "-c", "from defsurvey.storage.hosts import host; print(host())"],
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == host(), told.stderr


@pytest.mark.parametrize("other", ["boot", "numbering"])
def test_hosts_of_one_name_are_told_apart(places: tuple[Path, Path], tmp_path: Path, other: str) -> None:
    """By their boot, as cloned machines are, and by who numbers their processes, as containers are."""
    boot, numbering = places
    first = host()
    hosts._mark.cache_clear()
    assert host() == first
    if other == "boot":
        boot.write_text("2f1c0a52-0002\n", encoding="ascii")
    else:
        (tmp_path / "another").touch()  # before the first is gone: no file has its number then
        (tmp_path / "another").replace(numbering)
    hosts._mark.cache_clear()
    assert host() != first


@pytest.mark.parametrize("missing", [0, 1])
def test_a_system_that_does_not_tell_has_the_name_alone(places: tuple[Path, Path], missing: int) -> None:
    """As on macOS."""
    places[missing].unlink()
    assert host() == socket.gethostname()
