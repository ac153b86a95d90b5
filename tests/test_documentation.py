"""The documentation holds together: every link and anchor resolves, every page can be found, and the site is built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown import markdown
from markdown.extensions.toc import slugify

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
