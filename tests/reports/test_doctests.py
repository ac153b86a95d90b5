"""The examples in the docstrings of reports hold."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "reports.metrics.divergence",
    "reports.metrics.aggregate",
    "reports.metrics.floor",
    "reports.metrics.diversity",
    "reports.metrics.quality",
    "reports.metrics.contamination",
    "reports.metrics.intervals",
    "reports.figures",
    "reports.untrusted",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    """Every example of a module gives what it says, and the module has some."""
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
