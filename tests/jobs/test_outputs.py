"""Places that cannot be written to: wrong input where the place is at fault, and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from defsurvey.jobs.system import BadOutput, why_unwritable, written_to


@pytest.mark.parametrize("file", ["out/report", "out/.report.partial", "out/report/report.html", "out"])
def test_a_place_at_fault_is_named_as_it_was_typed(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system names a file beside it, in it, or a folder on the way."""
    monkeypatch.chdir(tmp_path)
    expected = r"^--output: expected a place that can be written to, got out/report: Permission denied$"
    with pytest.raises(BadOutput, match=expected), written_to("--output", Path("out/report")):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / file))


def test_a_link_to_a_place_at_fault_is_named_as_it_was_typed(tmp_path: Path) -> None:
    """What the system names lies where the link leads."""
    link = tmp_path / "here" / "link"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "there" / "report")
    with pytest.raises(BadOutput, match=r"got .*/here/link: Permission denied$"), written_to("-o", link):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "there" / ".report.x"))


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (Path("out"), OSError(errno.ENOSPC, "No space left on device", "out")),
        (Path("out"), FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere/template.html")),
        (Path("out"), BrokenPipeError(errno.EPIPE, "Broken pipe")),
        (None, PermissionError(errno.EACCES, "Permission denied", "out")),
    ],
)
def test_what_is_no_fault_of_the_place_stays_what_it_is(place: Path | None, error: OSError) -> None:
    """A full disk, a file of our own that is missing, a pipe that was closed, a place that nobody typed."""
    with pytest.raises(OSError) as raised, written_to("--output", place):  # noqa: PT011  # compared below
        raise error
    assert raised.value is error


def test_why_nothing_can_be_written_to_a_folder(tmp_path: Path) -> None:
    """Nothing is left of having tried."""
    assert why_unwritable(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert why_unwritable(tmp_path / "file" / "folder") == "Not a directory"
