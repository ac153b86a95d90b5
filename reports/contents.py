"""Puts a report together: which sections, in which order, with which words of explanation.

Knows what a reader needs first: the finding, the figures, the answers, then how and from what it was
made. Deliberately renders nothing (see ``reports.html`` and ``reports.markdown``).
"""

from __future__ import annotations

from reports.analysis import Analysis
from reports.cards import question_cards, sample_cards
from reports.charts import dimension_plots, dot_plots
from reports.figures import percent
from reports.finding import closest_dimension, find
from reports.method import METHOD
from reports.page import Page, Section, Term, Tile
from reports.tables import (
    control_table,
    diversity_table,
    paper_table,
    quality_table,
    ranking_table,
    sound_table,
)
from storage.run import Protocol


def page(analysis: Analysis) -> Page:
    """The whole report of one run."""
    results, found = analysis.results, find(analysis)
    created = results.run.created_at
    return Page(
        title=f"{results.run.id}: {results.survey.title}",
        kicker=f"{results.survey.title} · run {results.run.id} · {created:%-d %B %Y}",
        headline=found.headline,
        sentences=found.sentences,
        cautions=found.cautions,
        tiles=_tiles(analysis),
        sections=(
            _closeness(analysis),
            _dimensions(analysis),
            Section(
                anchor="diversity",
                contents="Diversity",
                title="How much the replies differ",
                paragraphs=(
                    (
                        "D counts distinct full replies; the options used say whether the choices differ too. "
                        "A model can word one opinion in twenty ways."
                    ),
                ),
                tables=(diversity_table(analysis),),
            ),
            Section(
                anchor="quality",
                contents="Answer quality",
                title="How the answers ended",
                paragraphs=(
                    (
                        "Divergence is measured on valid answers only. Refused, unparsable and failed answers are "
                        "counted here and are never turned into a choice."
                    ),
                ),
                tables=(quality_table(analysis),),
            ),
            _samples(analysis),
            Section(
                anchor="questions",
                contents="Questions",
                title="Question by question",
                paragraphs=("People beside models, every question of the run. Small figures are the noise floor.",),
                questions=question_cards(analysis),
            ),
            Section(anchor="method", contents="Method", title="How to read this", terms=METHOD),
            _provenance(analysis),
        ),
    )


def _tiles(analysis: Analysis) -> tuple[Tile, ...]:
    overall = analysis.overall
    sizes = sorted({cell.participants for cell in analysis.results.run.cells})
    people = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,}–{sizes[-1]:,}"
    unfinished = (Tile(value=f"{overall.done:,}", label="of them ended"),) if overall.done < overall.planned else ()
    return (
        Tile(value=f"{overall.planned:,}", label="answers planned"),
        *unfinished,
        Tile(value=percent(overall.valid.share), label="answered"),
        Tile(value=percent(overall.refused.share), label="refused"),
        Tile(value=percent(overall.unparsable.share), label="unparsable"),
        Tile(value=percent(overall.failed.share), label="failed"),
        Tile(value=people, label="participants per cell"),
    )


def _closeness(analysis: Analysis) -> Section:
    ranked = [culture for culture in analysis.cultures if culture.ranking.order]
    return Section(
        anchor="closeness",
        contents="Closeness",
        title="How close the answers come to people's",
        charts=dot_plots(analysis),
        chart_note=(
            "Filled marks: a model's mean divergence, with its 95% interval. Shaded: up to what equally many real "
            "people would score. Open diamonds: simple respondents; the dashed line answers at random."
        ),
        tables=(
            *(ranking_table(culture) for culture in ranked),
            *(control_table(culture) for culture in analysis.cultures),
        ),
        side_by_side=True,
    )


def _dimensions(analysis: Analysis) -> Section:
    charts = dimension_plots(analysis)
    return Section(
        anchor="dimensions",
        contents="By dimension",
        title=closest_dimension(analysis),
        charts=charts,
        chart_note="Shaded: the noise floor of each row. Colour and shape tell the cultures apart." if charts else "",
        legend=tuple(culture.name for culture in analysis.cultures) if charts else (),
        tables=(sound_table(analysis), paper_table(analysis)),
    )


def _samples(analysis: Analysis) -> Section:
    cards = sample_cards(analysis)
    some = "Drawn by seed, not picked. Options stand in the order shown; a filled mark is the choice that was read."
    return Section(
        anchor="answers",
        contents="Sample answers",
        title="Answers as they were given",
        paragraphs=(some if cards else "No answer has been stored yet.",),
        samples=cards,
    )


def _protocol(protocol: Protocol) -> tuple[Term, ...]:
    return (
        Term(name="Seed", value=str(protocol.seed)),
        Term(name="Preset", value=protocol.preset.value),
        Term(name="Draws per", value=protocol.draws.value),
        Term(name="Question order", value=protocol.question_order.value),
        Term(name="Memory order", value=protocol.memory_order.value),
        Term(name="Temperature, top-p", value=f"{protocol.temperature:g}, {protocol.top_p:g}"),
        Term(name="New tokens at most", value=str(protocol.max_new_tokens)),
    )


def _provenance(analysis: Analysis) -> Section:
    results = analysis.results
    survey, run = results.survey, results.run
    engines = tuple(
        Term(name=f"Model {model}", value="; ".join(f"{name}: {value}" for name, value in sorted(served.items())))
        for model, served in sorted(results.engines.items())
    )
    times = ", ".join(f"{model} {seconds:,.0f} s" for model, seconds in sorted(results.model_seconds.items()))
    versions = ", ".join(f"{package} {version}" for package, version in sorted(results.versions.items()))
    terms = (
        Term(name="Run", value=run.id),
        Term(name="Created", value=run.created_at.isoformat(timespec="seconds")),
        Term(name="Ledger revision", value=str(results.revision)),
        *_protocol(run.protocol),
        Term(name="Survey", value=f"{survey.title} ({survey.id}), version {survey.version}"),
        Term(name="Survey fingerprint", value=survey.fingerprint or run.survey),
        Term(name="Citation", value=survey.citation),
        Term(name="Terms", value=survey.terms),
        *engines,
        Term(name="Time in models", value=times or "not known"),
        Term(name="Software", value=versions or "not known"),
    )
    return Section(
        anchor="provenance", contents="Provenance", title="Where it comes from", terms=terms, study=run.study
    )
