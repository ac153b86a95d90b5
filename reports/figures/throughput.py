"""How fast each model answered, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isnan, nan

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.number_format import NONE
from defsurvey.reports.page import Entry, Field, Section, table
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


_NOT_COUNTED = "the engine counted no tokens"


def throughput_section(analysis: Analysis) -> Section:
    """How long each model took, how many tokens, what they cost."""
    rows = analysis.figure(throughput)
    fields: list[Field[ThroughputRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Engine", lambda row: Entry(text=row.engine, words=True), words=True),
        Field("Answers", lambda row: f"{row.answers:,}"),
        Field("Seconds", lambda row: f"{row.seconds:,.0f}".replace("nan", NONE), "summed over answers"),
        Field("Seconds per answer", lambda row: f"{row.seconds_per_answer:,.2f}".replace("nan", NONE)),
        Field("Prompt tokens", lambda row: _tokens(row, lambda tokens: tokens.prompt)),
        Field("Completion tokens", lambda row: _tokens(row, lambda tokens: tokens.completion)),
        Field(
            "Tokens/s",
            lambda row: Entry(
                text=f"{row.tokens_per_second:,.1f}".replace("nan", NONE), why="" if row.tokens else _NOT_COUNTED
            ),
            "completion tokens per second of an answer; answers overlap",
        ),
        Field("Cost", _cost, "US dollars, at the prices beneath the table"),
    ]
    return Section(
        anchor="throughput",
        contents="Throughput",
        title=_title(rows),
        paragraphs=(
            (
                "Seconds are summed over answers; answers overlap, so that a run takes less. Tokens are those that the "
                "engine counted; of an answer that was asked again only the last attempt is in them, and a panel's "
                "stand with the first of its answers."
            ),
        ),
        tables=(
            table(
                rows,
                fields,
                anchor="table-throughput",
                caption="Time, tokens and cost by model",
                notes=_notes(rows),
            ),
        ),
    )


def _title(rows: Sequence[ThroughputRow]) -> str:
    known = [row.cost for row in rows if not isnan(row.cost)]
    if not known:
        return "Throughput and cost"
    total = dollars(fsum(known))
    return f"All models together cost {total}" if len(known) == len(rows) else f"The models with a price cost {total}"


def dollars(amount: float) -> str:
    """An amount of US dollars; small ones get more digits.

    >>> dollars(1234.5), dollars(0.0123), dollars(0), dollars(float("nan"))
    ('$1,234.50', '$0.0123', '$0.00', '–')
    """
    if isnan(amount):
        return NONE
    return f"${amount:,.4f}" if 0 < amount < 0.1 else f"${amount:,.2f}"


def _tokens(row: ThroughputRow, count: Callable[[TokenCount], int]) -> Entry:
    if row.tokens is None:
        return Entry(text=NONE, why=_NOT_COUNTED)
    part = f"with {row.tokens.answers:,} answers" if row.tokens.answers < row.answers else ""
    return Entry(text=f"{count(row.tokens):,}", beneath=part)


def _cost(row: ThroughputRow) -> Entry:
    if row.price is None:
        return Entry(text="no price", why="its card has no price")
    return Entry(text=dollars(row.cost), why=_NOT_COUNTED if row.tokens is None else "")


def _notes(rows: Sequence[ThroughputRow]) -> tuple[str, ...]:
    """The prices, as they were when the run was served."""
    return tuple(
        f"{row.model}: ${row.price.input:g} per million prompt tokens, ${row.price.output:g} per million completion "
        f"tokens, {f'as of {row.price.looked_up}' if row.price.looked_up else 'date not known'}; batch discounts and "
        "cached prompts are not counted."
        for row in rows
        if row.price is not None
    )
