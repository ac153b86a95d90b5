"""A name becomes a path within its folder, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from defsurvey.storage.files import OutsideFolder, path_under


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


@pytest.mark.parametrize("names", [("new",), ("own", "new"), ("within",), ("a b",), ("\u6587",), ("x" * 300,)])
def test_what_stays_within_is_a_path(root: Path, names: tuple[str, ...]) -> None:
    """It need not be there, and nothing is made."""
    before = sorted(root.iterdir())
    assert path_under(root, *names) == root.joinpath(*names)
    assert sorted(root.iterdir()) == before


@pytest.mark.parametrize(
    "names",
    [
        ("",), (".",), ("..",), ("../x",), ("../there2",), ("own/../../x",), ("/",), ("/etc",), ("own", "/etc"),
        ("out",), ("out", "x"), ("circle",), ("a\0b",), ("\0",),
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(root: Path, names: tuple[str, ...]) -> None:
    """Upwards, from the file system's root, by a link, or to the folder itself; or it is no path at all."""
    with pytest.raises(OutsideFolder, match=r"expected a (path|name) within .*root, got "):
        path_under(root, *names)
