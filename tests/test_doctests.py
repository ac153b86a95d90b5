"""Every example in a docstring of the four rooms gives what it says, and every metric has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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
