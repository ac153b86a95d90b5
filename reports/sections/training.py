"""Appendix I and section 6.1: training stage and size against closeness."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.series import Training, training
from defsurvey.reports.figures.words import INFINITE, LEVEL, culture_names, infinite_entry, missing, told
from defsurvey.reports.number_format import fixed, percent, signed
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow


def training_section(analysis: Analysis) -> Section:
    """Appendix I and section 6.1."""
    part = analysis.figure(training)
    section = Section(
        anchor="appendix-i",
        contents="App. I · Training and size",
        title="Training stage, size and closeness",
        number="Appendix I, section 6.1",
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    apart = sum(contrast.p_holm < LEVEL for _, _, contrast in part.contrasts)
    return replace(
        section,
        title=f"Training stages differ in {apart} of {len(part.contrasts)} comparisons within a series"
        if part.contrasts
        else section.title,
        paragraphs=(
            (
                "Stages are compared within a series: between series everything else differs too. Sizes of a few "
                "models prove nothing; the correlation is shown because the paper speaks of it."
            ),
        ),
        tables=tuple(
            table
            for table in (_stages(analysis, part), _stage_tests(analysis, part), _sizes(analysis, part))
            if table.rows
        ),
    )


def _stages(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="appendix-i-stages",
        caption="Means by training stage",
        grouped_by="Culture",
        columns=(
            Column(text="Stage", words=True),
            Column(text="Models", meaning="that have a figure"),
            Column(text="Smoothed KL", meaning="mean over models, nats"),
            Column(text="Excess", meaning="over the noise floor"),
            Column(text="Plug-in KL", meaning="the paper's way, mean over models, nats"),
            INFINITE,
            Column(text="Matching", meaning="share of all items whose commonest answer is people's"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=stage.stage),
                group=names[stage.culture],
                entries=(
                    Entry(
                        text=str(len(stage.models)),
                        why=", ".join(stage.models) or "no model of this stage has a figure",
                    ),
                    Entry(text=fixed(stage.sound)),
                    Entry(text=signed(stage.excess)),
                    Entry(
                        text=fixed(stage.paper),
                        why="all values of one of the models are infinite"
                        if stage.models and isnan(stage.paper)
                        else "",
                    ),
                    infinite_entry(stage.infinite),
                    Entry(text=percent(stage.match)),
                ),
            )
            for stage in part.stages
        ),
    )


def _stage_tests(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="appendix-i-contrasts",
        caption="Stage against stage within a series (corrected KL, nats)",
        grouped_by="Culture",
        columns=(
            Column(text="Comparison", words=True),
            Column(text="Difference", meaning="below 0: the first is closer"),
            Column(text="p, Holm"),
            Column(text="Questions", meaning="behind the mean, with n valid answers from every model compared"),
            Column(text="n", meaning="valid answers per question that every model was brought down to"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=f"{series}: {contrast.first} − {contrast.second}"),
                group=names[culture],
                entries=(
                    Entry(text=signed(contrast.difference)),
                    told(contrast.p_holm),
                    Entry(text=str(contrast.questions)),
                    Entry(text=str(contrast.n)),
                ),
            )
            for culture, series, contrast in part.contrasts
        ),
    )


def _sizes(analysis: Analysis, part: Training) -> Table:
    names = culture_names(analysis)
    return Table(
        anchor="appendix-i-sizes",
        caption="Spearman's correlation with the number of parameters",
        columns=(
            Column(text="Culture", words=True),
            Column(text="Models"),
            Column(text="Divergence", meaning="of the mean; below 0: larger is closer"),
            Column(text="p", meaning="permutation, two-sided"),
            Column(text="Matching", meaning="of all items; above 0: larger matches more"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=names[size.culture]),
                entries=(
                    Entry(text=str(size.models)),
                    Entry(text=signed(size.divergence)),
                    told(size.divergence_p),
                    Entry(text=signed(size.match)),
                ),
            )
            for size in part.sizes
        ),
    )
