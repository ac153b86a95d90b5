"""The examples in the docstrings of the metrics and of the parts hold."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "reports.metrics.agreement",
    "reports.metrics.bias",
    "reports.metrics.comparisons",
    "reports.metrics.configurations",
    "reports.metrics.cultural_map",
    "reports.metrics.gtest",
    "reports.metrics.insensitivity",
    "reports.metrics.position",
    "reports.metrics.resampling",
    "reports.metrics.significance",
    "reports.comparing",
    "reports.publications",
    "reports.series",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    """Every example of a module gives what it says, and the module has some."""
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
