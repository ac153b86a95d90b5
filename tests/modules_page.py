"""Writes docs/modules.md: every module of the four rooms with the first sentence of its docstring.

``make modules`` runs it; a test holds the page against the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("jobs", "workers", "storage", "reports")
_HEAD = """# Modules

What each module is for, in its own words; how they fit together is told in [architecture](architecture.md).
`make modules` writes this page.
"""


def page() -> str:
    """The page as it should be."""
    lines = [_HEAD]
    for folder in sorted({path.parent for path, _ in _modules()}, key=_place):
        lines += [f"## {folder.relative_to(ROOT)}/", "", "| module | what for |", "|---|---|"]
        lines += [f"| `{path.name}` | {said} |" for path, said in _modules() if path.parent == folder]
        lines.append("")
    return "\n".join(lines)


def _place(folder: Path) -> tuple[int, str]:
    parts = folder.relative_to(ROOT).parts
    return ROOMS.index(parts[0]), "/".join(parts)


def _modules() -> Iterator[tuple[Path, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            told = ast.get_docstring(ast.parse(path.read_text()))
            if path.name != "__init__.py" and "migrations/versions" not in path.as_posix() and told:
                yield path, " ".join(told.split("\n\n")[0].split()).replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    (ROOT / "docs" / "modules.md").write_text(page())
