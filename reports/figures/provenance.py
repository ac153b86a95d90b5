"""Provenance and downloads: where it comes from, where the data are."""

from __future__ import annotations

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CultureAnalysis, read_how_far
from defsurvey.reports.circumstances import SAID_OF_WEIGHTS, languages_asked, weights_loaded
from defsurvey.reports.figures.judging import insensitivity
from defsurvey.reports.figures.words import CITATION, NotRun
from defsurvey.reports.merge import run_ids, runs_of
from defsurvey.reports.page import Download, Section, Term
from defsurvey.storage.runs.run import EngineDescription, Run

#: Files that lie beside a report.
METRICS, ANSWERS = "metrics.csv", "answers.csv"


def _settings(run: Run) -> tuple[Term, ...]:
    protocol = run.protocol
    return (
        Term(name="Created", value=run.created_at.isoformat(timespec="seconds")),
        Term(name="Seed", value=str(protocol.seed)),
        Term(name="Preset", value=protocol.preset.value),
        Term(name="Draws per", value=protocol.draws.value),
        Term(name="Question order", value=protocol.question_order.value),
        Term(name="Memory order", value=protocol.memory_order.value),
        Term(
            name="Temperature, top-p, top-k",
            value=f"{protocol.temperature:g}, {protocol.top_p:g}, {protocol.top_k or 'no limit'}",
        ),
        Term(
            name="Sampling",
            value={None: "as preset and condition say", True: "always", False: "never"}[protocol.do_sample],
        ),
        Term(name="New tokens at most", value=str(protocol.max_new_tokens)),
        Term(name="Replies", value=f"{protocol.reply.value}: read {read_how_far(protocol.reply)}"),
    )


def _of_each(run: Run) -> tuple[Term, ...]:
    """The settings of a run; of several in one report each run's own, where they differ."""
    parts = runs_of(run)
    return tuple(
        terms[0]
        if len({term.value for term in terms}) == 1
        else Term(
            name=terms[0].name,
            value="; ".join(f"{term.value} in {part.id}" for term, part in zip(terms, parts, strict=True)),
        )
        for terms in zip(*(_settings(part) for part in parts), strict=True)
    )


def _served(model: str, served: EngineDescription) -> tuple[Term, ...]:
    """How an engine described itself; what it says of quantisation stands in a term by itself, in words."""
    loaded = weights_loaded(served)
    shown = {name: value for name, value in served.items() if not loaded or name not in SAID_OF_WEIGHTS}
    return (
        Term(name=f"Model {model}", value="; ".join(f"{name}: {value}" for name, value in sorted(shown.items()))),
        *((Term(name=f"Weights of {model}", value=loaded),) if loaded else ()),
    )


def _languages(culture: CultureAnalysis) -> str:
    asked, own = languages_asked(culture)
    return f"{asked}; its own is {own}" if own else asked


def provenance_section(analysis: Analysis) -> Section:
    """Versions, models, survey, seeds, judge, failures and the study file."""
    results = analysis.results
    survey, run, progress = results.survey, results.run, results.progress
    engines = tuple(term for model, served in sorted(results.engines.items()) for term in _served(model, served))
    facts = tuple(
        Term(name=f"Card of {model}", value="; ".join(f"{name}: {value}" for name, value in sorted(said.items())))
        for model, said in sorted(results.model_facts.items())
        if said
    )
    versions = ", ".join(f"{package} {version}" for package, version in sorted(results.versions.items()))
    again = results.out_of_sequence
    created, *settings = _of_each(run)
    terms = (
        Term(name="Run", value=run.id),
        created,
        Term(name="Ledger revision", value=str(results.revision)),
        *settings,
        Term(name="Languages", value="; ".join(f"{each.name}: {_languages(each)}" for each in analysis.cultures)),
        Term(name="Survey", value=f"{survey.title} ({survey.id}), version {survey.version}"),
        Term(name="Survey fingerprint", value=survey.fingerprint or run.survey),
        Term(name="Citation", value=survey.citation),
        Term(name="Terms", value=survey.terms),
        Term(
            name="Answers",
            value=f"{progress.planned:,} planned, {progress.answered:,} answered, {progress.refused:,} refused, "
            f"{progress.unparsable:,} unparsable, {progress.failed:,} failed, {progress.remaining:,} missing",
        ),
        Term(
            name="Asked again",
            value=f"{again:,} of {results.progress.done:,} answers were asked again later, out of sequence",
        ),
        Term(name="Judge", value=_judge(analysis)),
        *engines,
        *facts,
        Term(name="Software", value=versions or "not known"),
        Term(name="Method", value=f"Diversity-Enhanced Framework of {CITATION}"),
    )
    return Section(
        anchor="provenance", contents="Provenance", title="Where it comes from", terms=terms, study=run.study
    )


def _judge(analysis: Analysis) -> str:
    part = analysis.figure(insensitivity)
    return "none was asked" if isinstance(part, NotRun) else ", ".join(judged.judge for judged in part.judges)


def download_section(analysis: Analysis) -> Section:
    """The files beside the report."""
    runs = run_ids(analysis.results.run)
    exported = [(run, run if len(runs) > 1 else "answers") for run in runs]
    return Section(
        anchor="downloads",
        contents="Downloads",
        title="The data behind it",
        paragraphs=(
            (
                "The files lie beside this report; every table above, also of comparisons and tests, can be had as CSV "
                "by itself. Replies in full: "
                + "; ".join(
                    f"defsurvey export {run} --format parquet --output {file}.parquet" for run, file in exported
                )
            ),
        ),
        downloads=(
            Download(
                file=METRICS,
                text="of every cell divergence, diversity, answer quality, matching, position bias and place, and "
                "divergence by dimension and question, distances by item, shares by option; simple respondents; one a "
                "line, unrounded, each way of measuring by itself",
            ),
            Download(file=ANSWERS, text="every answer, one a line, without the text of the reply"),
        ),
    )
