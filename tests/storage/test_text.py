"""Addresses without passwords, names as paths, characters that nobody sees, and hosts told apart."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from defsurvey.storage import hosts
from defsurvey.storage.address import MISREAD, in_words, shown
from defsurvey.storage.files import OutsideFolder, path_under
from defsurvey.storage.hosts import host
from defsurvey.storage.text import visible


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:hunter2@there:5432/db", "postgresql://me:***@there:5432/db"),
        ("postgresql://me@a:1,b:2/db", "postgresql://me@a:1,b:2/db"),
        ("postgresql://me@there/db?a=b&p%61ssword=hunter&2=", "postgresql://me@there/db?***"),
        ("redis://:hun:ter2@there/0", "redis://:***@there/0"),
        ("sqlite:////home/what%3F%40.db", "sqlite:////home/what?@.db"),
    ],
)
def test_a_url_that_cannot_be_misread_is_shown_but_for_its_password(url: str, expected: str) -> None:
    assert shown(url) == expected
    assert in_words(url, "no\nsuch\x1b host") == "no such⟨U+001B⟩ host"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:hun/ter2@there:1/db", "postgresql://***@there:1/db"),
        ("postgresql://me:hun@ter2@there/db", "postgresql://***"),
        ("postgresql://me@there:1/db?password=hun@ter2", "postgresql://***"),
        ("redis://:hunt#er2@there:1/0", "redis://***@there:1/0"),
        ("redis://there:hunter2", "redis://***"),
        ("me:hunter2@there/db", "***"),
        ("nonsense", "nonsense"),
    ],
)
def test_of_one_that_can_be_misread_no_piece_of_the_password_is_shown(url: str, expected: str) -> None:
    assert shown(url) == expected
    assert in_words(url, "port hunter2 is no number") == MISREAD


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that is reached by a link and has links in it: to a folder of its own, out of it, and in a circle."""
    there = tmp_path / "there"
    (there / "own").mkdir(parents=True)
    (there / "within").symlink_to("own")
    (there / "out").symlink_to(tmp_path)
    (there / "circle").symlink_to("circle")
    (tmp_path / "root").symlink_to(there)
    return tmp_path / "root"


@pytest.mark.parametrize("names", [("",), ("..",), ("own/../../x",), ("own", "/etc"), ("out",), ("circle",), ("a\0b",)])
def test_what_leads_elsewhere_is_refused(root: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(OutsideFolder, match=r"expected a (path|name) within .*root, got "):
        path_under(root, *names)


ZWNJ, ZWJ = "\u200c", "\u200d"


@pytest.mark.parametrize(
    "text", [f"می{ZWNJ}خواهم", f"क्{ZWJ}ष", f"ශ්{ZWJ}රී ලංකා"], ids=["Persian", "half form", "Sinhala"]
)
def test_a_joiner_is_spelling_in_persian_and_indian_scripts(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"mo{ZWNJ}del", "mo⟨U+200C⟩del"),
        (f"{ZWJ}می", "⟨U+200D⟩می"),
        (f"1{ZWNJ}2", "1⟨U+200C⟩2"),
        ("می\u200bخ", "می⟨U+200B⟩خ"),
    ],
    ids=["Latin", "at the beginning", "numbers", "no joiner"],
)
def test_elsewhere_a_joiner_hides_something(text: str, shown: str) -> None:
    assert visible(text) == shown


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


def test_every_process_of_a_host_says_the_same() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from defsurvey.storage.hosts import host; print(host())"],
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == host(), told.stderr
    assert re.fullmatch(rf"{re.escape(socket.gethostname())}:[0-9a-f]{{8}}", host())


@pytest.mark.parametrize("other", ["boot", "numbering"])
def test_hosts_of_one_name_are_told_apart(places: tuple[Path, Path], tmp_path: Path, other: str) -> None:
    boot, numbering = places
    first = host()
    if other == "boot":
        boot.write_text("2f1c0a52-0002\n", encoding="ascii")
    else:
        (tmp_path / "another").touch()  # before the first is gone: no file has its number then
        (tmp_path / "another").replace(numbering)
    hosts._mark.cache_clear()
    assert host() != first
    places[0].unlink()
    hosts._mark.cache_clear()
    assert host() == socket.gethostname()  # as on macOS
