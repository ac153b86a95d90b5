"""How fast each model answered, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

from defsurvey.reports.analysis import Analysis
from defsurvey.storage.runs.results import TokenCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost when the run was served."""

    input: float  #: US dollars per million tokens of prompts
    output: float  #: US dollars per million tokens of completions
    looked_up: str  #: month or day; empty: not known

    def cost(self, tokens: TokenCount) -> float:
        """What these tokens cost, in US dollars.

        >>> Price(input=2.0, output=10.0, looked_up="2026-10").cost(
        ...     TokenCount(answers=1, prompt=500_000, completion=100_000, seconds=1.0))
        2.0
        """
        return (tokens.prompt * self.input + tokens.completion * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """One model."""

    model: str
    engine: str
    answers: int  #: that ended
    seconds: float  #: summed over answers: they overlap, so that a run takes less
    tokens: TokenCount | None  #: None: its engine counted none
    price: Price | None  #: None: its card has none

    @property
    def seconds_per_answer(self) -> float:
        """Mean time of one answer, from being asked to being complete; nan without an answer."""
        return self.seconds / self.answers if self.answers else nan

    @property
    def tokens_per_second(self) -> float:
        """Tokens of completions per second of the answers they belong to; these overlap. nan: nothing was counted."""
        return self.tokens.completion / self.tokens.seconds if self.tokens and self.tokens.seconds > 0 else nan

    @property
    def cost(self) -> float:
        """US dollars, of the answers with counts; nan where tokens or price are not known."""
        return self.price.cost(self.tokens) if self.tokens and self.price else nan


def throughput(analysis: Analysis) -> tuple[ThroughputRow, ...]:
    """How long each model took, how many tokens, what they cost."""
    results = analysis.results
    ended: Counter[str] = Counter()
    for cell in analysis.cells:
        ended[cell.cell.model] += cell.quality.done
    return tuple(
        ThroughputRow(
            model=model,
            engine=results.engines.get(model, {}).get("engine", "not known"),
            answers=ended[model],
            seconds=results.model_seconds.get(model, nan),
            tokens=results.tokens.get(model),
            price=_price(results.model_facts.get(model, {})),
        )
        for model in dict.fromkeys(cell.model for cell in results.run.cells)
    )


def _price(facts: Mapping[str, str]) -> Price | None:
    if "input_price" not in facts or "output_price" not in facts:
        return None
    return Price(
        input=float(facts["input_price"]), output=float(facts["output_price"]), looked_up=facts.get("priced", "")
    )
