"""Where it comes from, how fast it came and what it cost, and where the data are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isnan, nan

from defsurvey.reports.analysis import READ, Analysis, CultureAnalysis
from defsurvey.reports.circumstances import SAID_OF_WEIGHTS, languages_asked, weights_loaded
from defsurvey.reports.figures.shared import usable_verdicts
from defsurvey.reports.figures.words import CITATION
from defsurvey.reports.merge import run_ids, runs_of
from defsurvey.reports.number_format import NONE
from defsurvey.reports.page import Entry, Field, Section, Term, table
from defsurvey.storage.runs.results import TokenCount
from defsurvey.storage.runs.run import EngineDescription, Run

#: Files that lie beside a report.
METRICS, ANSWERS = "metrics.csv", "answers.csv"


def _settings(run: Run) -> dict[str, str]:
    protocol = run.protocol
    sampling = {None: "as preset and condition say", True: "always", False: "never"}
    return {
        "Created": run.created_at.isoformat(timespec="seconds"),
        "Seed": str(protocol.seed),
        "Preset": protocol.preset.value,
        "Draws per": protocol.draws.value,
        "Question order": protocol.question_order.value,
        "Memory order": protocol.memory_order.value,
        "Temperature, top-p, top-k": f"{protocol.temperature:g}, {protocol.top_p:g}, {protocol.top_k or 'no limit'}",
        "Sampling": sampling[protocol.do_sample],
        "New tokens at most": str(protocol.max_new_tokens),
        "Replies": f"{protocol.reply.value}: read {READ[protocol.reply]}",
    }


def _of_each(run: Run) -> dict[str, str]:
    """The settings of a run; of several in one report each run's own, where they differ."""
    parts, said = {part.id: _settings(part) for part in runs_of(run)}, {}
    for name in _settings(run):
        values = {part: settings[name] for part, settings in parts.items()}
        several = len(set(values.values())) > 1
        each = [f"{value} in {part}" if several else value for part, value in values.items()]
        said[name] = "; ".join(dict.fromkeys(each))
    return said


def _served(model: str, served: EngineDescription) -> dict[str, str]:
    """How an engine described itself; what it says of quantisation stands in a term by itself, in words."""
    loaded = weights_loaded(served)
    shown = {name: value for name, value in served.items() if not loaded or name not in SAID_OF_WEIGHTS}
    return {f"Model {model}": _facts(shown), **({f"Weights of {model}": loaded} if loaded else {})}


def _facts(facts: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in sorted(facts.items()))


def _languages(culture: CultureAnalysis) -> str:
    asked, own = languages_asked(culture)
    return f"{asked}; its own is {own}" if own else asked


def provenance_section(analysis: Analysis) -> Section:
    """Versions, models, survey, seeds, judge, failures and the study file."""
    results = analysis.results
    survey, run, progress, again = results.survey, results.run, results.progress, results.out_of_sequence
    versions = ", ".join(f"{package} {version}" for package, version in sorted(results.versions.items()))
    settings = _of_each(run)
    terms = {
        "Run": run.id,
        "Created": settings.pop("Created"),
        "Ledger revision": str(results.revision),
        **settings,
        "Languages": "; ".join(f"{each.name}: {_languages(each)}" for each in analysis.cultures),
        "Survey": f"{survey.title} ({survey.id}), version {survey.version}",
        "Survey fingerprint": survey.fingerprint or run.survey,
        "Citation": survey.citation,
        "Terms": survey.terms,
        "Answers": f"{progress.planned:,} planned, {progress.answered:,} answered, {progress.refused:,} refused, "
        f"{progress.unparsable:,} unparsable, {progress.failed:,} failed, {progress.remaining:,} missing",
        "Asked again": f"{again:,} of {progress.done:,} answers were asked again later, out of sequence",
        "Judge": ", ".join(given.judge for given in usable_verdicts(analysis)) or "none was asked",
    }
    for model, served in sorted(results.engines.items()):
        terms |= _served(model, served)
    terms |= {f"Card of {model}": _facts(said) for model, said in sorted(results.model_facts.items()) if said}
    terms |= {"Software": versions or "not known", "Method": f"Diversity-Enhanced Framework of {CITATION}"}
    return Section(
        anchor="provenance",
        contents="Provenance",
        title="Where it comes from",
        terms=tuple(Term(name=name, value=value) for name, value in terms.items()),
        study=run.study,
    )


def download_section(analysis: Analysis) -> Section:
    """The files beside the report."""
    runs, asking = run_ids(analysis.results.run), "defsurvey export {} --format parquet --output {}.parquet"
    exported = "; ".join(asking.format(run, run if len(runs) > 1 else "answers") for run in runs)
    beside = (
        "The files lie beside this report; every table above, also of comparisons and tests, can be had as CSV by "
        f"itself. Replies in full: {exported}"
    )
    metrics = (
        "of every cell divergence, diversity, answer quality, matching, position bias and place, and divergence by "
        "dimension and question, distances by item, shares by option; simple respondents; one a line, unrounded, each "
        "way of measuring by itself"
    )
    answers = Term(name=ANSWERS, value="every answer, one a line, without the text of the reply")
    return Section(
        anchor="downloads",
        contents="Downloads",
        title="The data behind it",
        paragraphs=(beside,),
        downloads=(Term(name=METRICS, value=metrics), answers),
    )


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
    def tokens_per_second(self) -> float:
        """Tokens of completions per second of the answers they belong to; these overlap. nan: nothing was counted."""
        return self.tokens.completion / self.tokens.seconds if self.tokens and self.tokens.seconds > 0 else nan

    @property
    def cost(self) -> float:
        """US dollars, of the answers with counts; nan where tokens or price are not known."""
        return self.price.cost(self.tokens) if self.tokens and self.price else nan


def throughput(analysis: Analysis) -> tuple[ThroughputRow, ...]:
    """How long each model took, how many tokens, what they cost."""
    results, ended, rows = analysis.results, Counter[str](), []
    for cell in analysis.cells:
        ended[cell.cell.model] += cell.quality.done
    for model in dict.fromkeys(cell.model for cell in results.run.cells):
        facts, price = results.model_facts.get(model, {}), None
        if "input_price" in facts and "output_price" in facts:
            asked, given = float(facts["input_price"]), float(facts["output_price"])
            price = Price(input=asked, output=given, looked_up=facts.get("priced", ""))
        row = ThroughputRow(
            model=model,
            engine=results.engines.get(model, {}).get("engine", "not known"),
            answers=ended[model],
            seconds=results.model_seconds.get(model, nan),
            tokens=results.tokens.get(model),
            price=price,
        )
        rows.append(row)
    return tuple(rows)


_NOT_COUNTED = "the engine counted no tokens"


def throughput_section(analysis: Analysis) -> Section:
    """How long each model took, how many tokens, what they cost."""
    rows = analysis.figure(throughput)

    def number(value: float, digits: int) -> str:
        return NONE if isnan(value) else f"{value:,.{digits}f}"

    def rate(row: ThroughputRow) -> Entry:
        return Entry(number(row.tokens_per_second, 1), why="" if row.tokens else _NOT_COUNTED)

    def per_answer(row: ThroughputRow) -> str:
        return number(row.seconds / row.answers if row.answers else nan, 2)

    fields: list[Field[ThroughputRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Engine", lambda row: Entry(row.engine, words=True), words=True),
        Field("Answers", lambda row: f"{row.answers:,}"),
        Field("Seconds", lambda row: number(row.seconds, 0), "summed over answers"),
        Field("Seconds per answer", per_answer),
        Field("Prompt tokens", lambda row: _tokens(row, lambda tokens: tokens.prompt)),
        Field("Completion tokens", lambda row: _tokens(row, lambda tokens: tokens.completion)),
        Field("Tokens/s", rate, "completion tokens per second of an answer; answers overlap"),
        Field("Cost", _cost, "US dollars, at the prices beneath the table"),
    ]
    how = (
        "Seconds are summed over answers; answers overlap, so that a run takes less. Tokens are those that the engine "
        "counted; of an answer that was asked again only the last attempt is in them, and a panel's stand with the "
        "first of its answers."
    )
    shown = table(rows, fields, "table-throughput", "Time, tokens and cost by model", notes=_notes(rows))
    return Section(
        anchor="throughput", contents="Throughput", title=_cost_of_all(rows), paragraphs=(how,), tables=(shown,)
    )


def _cost_of_all(rows: Sequence[ThroughputRow]) -> str:
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
        return Entry(NONE, why=_NOT_COUNTED)
    part = f"with {row.tokens.answers:,} answers" if row.tokens.answers < row.answers else ""
    return Entry(f"{count(row.tokens):,}", beneath=part)


def _cost(row: ThroughputRow) -> Entry:
    if row.price is None:
        return Entry("no price", why="its card has no price")
    return Entry(dollars(row.cost), why=_NOT_COUNTED if row.tokens is None else "")


def _notes(rows: Sequence[ThroughputRow]) -> tuple[str, ...]:
    """The prices, as they were when the run was served."""
    return tuple(
        f"{row.model}: ${row.price.input:g} per million prompt tokens, ${row.price.output:g} per million completion "
        f"tokens, {f'as of {row.price.looked_up}' if row.price.looked_up else 'date not known'}; batch discounts and "
        "cached prompts are not counted."
        for row in rows
        if row.price is not None
    )
