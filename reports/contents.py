"""Puts a report together: which sections, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.circumstances import circumstances
from defsurvey.reports.figures.ablation import ablation_section, language_section
from defsurvey.reports.figures.closeness import closeness
from defsurvey.reports.figures.configured import configuration_section, draw_section
from defsurvey.reports.figures.cultural_map import map_section, score_section
from defsurvey.reports.figures.dimensions import mean_section, spread_section
from defsurvey.reports.figures.first_token import first_token_section
from defsurvey.reports.figures.frameworks import framework_section, model_section
from defsurvey.reports.figures.judging import judge_section
from defsurvey.reports.figures.landscape import case_section, landscape_section, near_section
from defsurvey.reports.figures.matching import matching_section, rank_section
from defsurvey.reports.figures.profiles import age_section, gender_section, heatmap_section
from defsurvey.reports.figures.provenance import download_section, provenance_section, throughput_section
from defsurvey.reports.figures.quality import quality_section, tiles
from defsurvey.reports.figures.questions import position_section, question_section
from defsurvey.reports.figures.series import series_section, training_section
from defsurvey.reports.finding import find
from defsurvey.reports.method import method
from defsurvey.reports.page import Page, Section

#: The paper's tables and figures, in the order in which they are read.
_PAPER = (
    framework_section,
    model_section,
    landscape_section,
    near_section,
    mean_section,
    spread_section,
    series_section,
    map_section,
    matching_section,
    judge_section,
    ablation_section,
    language_section,
    gender_section,
    age_section,
    configuration_section,
    score_section,
    case_section,
    heatmap_section,
    training_section,
    rank_section,
)


_BEYOND = (
    quality_section,
    position_section,
    question_section,
    draw_section,
    first_token_section,
    throughput_section,
    provenance_section,
)


def page(analysis: Analysis, *, remarks: Sequence[str] = ()) -> Page:
    """The whole report of one run; ``remarks`` are further sentences that a reader must know before citing it."""
    results, found = analysis.results, find(analysis)
    created = results.run.created_at
    (paper, *papers), (beyond, *others) = ([make(analysis) for make in made] for made in (_PAPER, _BEYOND))
    return Page(
        title=f"{results.run.id}: {results.survey.title}",
        kicker=f"{results.survey.title} · run {results.run.id} · {created:%-d %B %Y}",
        headline=found.headline,
        sentences=(circumstances(analysis), *found.sentences),
        cautions=(*remarks, *found.cautions),
        tiles=tiles(analysis),
        sections=(
            closeness(analysis),
            replace(paper, group="The paper"),
            *papers,
            replace(beyond, group="Beyond the paper"),
            *others,
            download_section(analysis),
            Section(
                anchor="method", contents="Method", title="How to read this", terms=method(results.run.protocol.reply)
            ),
        ),
    )
