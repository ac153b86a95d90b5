"""The pages name what the program has: every column of an export, and the options of its verbs."""

import re
from pathlib import Path

import click
import pytest

from defsurvey.jobs.cli.main import main
from defsurvey.reports.measures import MEASURES
from defsurvey.storage.runs.export import COLUMNS, PROBABILITIES, TELEMETRY

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: What several verbs share is explained once.
SHARED = ("--json", "--device", "--name", "--workers", "--concurrency", "--events")


def section(heading: str) -> str:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_column_of_exported_answers_is_explained() -> None:
    rows = re.findall(r"(?m)^\| (`.*?) \| (.+) \|$", section("Answers as data"))
    named = {name: said for names, said in rows for name in re.findall(r"`(\w+)`", names)}
    assert list(named) == [*COLUMNS, *TELEMETRY]
    assert [name for name, said in named.items() if "`--telemetry`" in said] == list(TELEMETRY)


def test_columns_of_other_exports_are_listed() -> None:
    listed = re.findall(r"Columns: ([\w,\s]+)\.", section("Metrics as data"))
    assert [re.split(r",\s+", names) for names in listed] == [list(MEASURES), list(PROBABILITIES)]


def options() -> list[tuple[str, tuple[str, ...]]]:

    def of(command: click.Command, verb: str) -> list[tuple[str, tuple[str, ...]]]:
        if isinstance(command, click.Group):
            return [pair for name, inner in command.commands.items() for pair in of(inner, f"{verb} {name}".strip())]
        own = (one for one in command.params if isinstance(one, click.Option) and not one.hidden)
        return [(verb, tuple(one.opts)) for one in own if not set(one.opts) & set(SHARED)]

    return of(main, "")


@pytest.mark.parametrize(("verb", "spellings"), options(), ids=lambda part: part if isinstance(part, str) else part[0])
def test_every_option_is_on_a_page(verb: str, spellings: tuple[str, ...]) -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    if not verb.startswith("survey import"):
        texts = [block for text in texts for block in re.split(r"\n\s*\n", text)]
    word = re.compile(rf"(?<![\w-])({'|'.join(spellings)})(?![\w-])")
    last = re.compile(rf"\b{re.escape(verb.split()[-1])}\b")
    assert any(word.search(text) and last.search(text) for text in texts)
