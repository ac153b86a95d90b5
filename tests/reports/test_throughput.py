"""Time, tokens and cost by model: what was counted and priced, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.provenance import throughput
from defsurvey.reports.page import Section
from defsurvey.storage.runs.results import Results, TokenCount
from tests.reports.synthetic import human, results

PRICED = {"input_price": "2", "output_price": "10", "priced": "2026-10"}


def two_models() -> Results:
    """A priced model that counted the tokens of all its answers but one, and one of which nothing is known."""
    made = results([("api", "us", "def", human), ("own", "us", "def", human)])
    ended = made.progress.done // 2
    return replace(
        made,
        tokens={"api": TokenCount(answers=ended - 1, prompt=1_500_000, completion=200_000, seconds=100.0)},
        model_facts={"api": PRICED},
    )


def ended_with_tokens() -> int:
    """How many answers of the priced model carry a count."""
    return two_models().tokens["api"].answers


def section(made: Results) -> Section:
    """The section of throughput."""
    return next(found for found in page(analyse(made)).sections if found.anchor == "throughput")


def test_tokens_speed_and_cost_are_worked_out() -> None:
    """1.5 million prompt tokens at 2 dollars and 0.2 million of completions at 10 make 5 dollars."""
    api, own = analyse(two_models()).figure(throughput)
    assert api.cost == pytest.approx(5.0)
    assert api.tokens_per_second == 2000.0
    assert own.cost != own.cost
    assert own.tokens_per_second != own.tokens_per_second


def test_the_section_says_what_is_known_and_why_the_rest_is_not() -> None:
    """Costs with the prices they rest on; a model without a price says so."""
    found = section(two_models())
    api, own = found.tables[0].rows
    assert found.title == "The models with a price cost $5.00"
    assert [entry.text for entry in api.entries[4:]] == ["1,500,000", "200,000", "2,000.0", "$5.00"]
    assert api.entries[4].beneath == f"with {ended_with_tokens():,} answers"
    assert [entry.text for entry in own.entries[4:]] == ["–", "–", "–", "no price"]
    (note,) = found.tables[0].notes
    assert "$2 per million prompt tokens" in note
    assert "as of 2026-10" in note


def test_a_price_without_a_count_is_no_cost() -> None:
    """An engine that counts nothing costs an unknown amount, not nothing."""
    found = section(replace(two_models(), tokens={}))
    assert found.tables[0].rows[0].entries[-1].text == "–"
    assert found.title == "Throughput and cost"
