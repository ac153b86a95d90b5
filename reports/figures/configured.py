"""What participants drew, and which configurations went with close and with distant answers (Appendix F).

What is best and what is worst is picked after the fact, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun
from defsurvey.reports.cells import Floats, Ints
from defsurvey.reports.figures.shared import LEVEL, OfCell, main_cells, main_cells_of
from defsurvey.reports.figures.words import MODEL, culture_table, interval_entry, named_cultures, section
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import grouped_mean, mean_known
from defsurvey.reports.metrics.comparisons import holm, rearrangements_for
from defsurvey.reports.metrics.configurations import Axis, Extreme, Level, axis_of, extremes, pickable
from defsurvey.reports.metrics.intervals import Interval
from defsurvey.reports.number_format import NAMED, NONE, chance, counted, fixed, listed, percent
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, fields_of
from defsurvey.storage.runs.results import DrawArrays

#: Seed of resamples and rearrangements.
CONFIGURATION_SEED = 20250314
#: Upper ends of the groups of memory capacities, and their names.
MEMORY_ENDS, MEMORY_NAMES = (0, 5, 10), ("0", "1-5", "6-10", "11 or more")
WARNING = (
    "The best and the worst of many are extreme by chance too: they were picked after the fact, and a new run "
    "need not repeat them. One answer per question is lowest where it is the commonest one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """The participant with the lowest or the highest divergence, and its configuration in words."""

    label: str  #: best or worst
    value: Extreme
    num_beams: str  #: "provider default" where the engine decided, as of sampling
    do_sample: str
    memory: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRow:
    """One axis of one cell, its levels named."""

    name: str
    labels: tuple[str, ...]  #: of ``axis.levels``
    axis: Axis


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredCell(OfCell):
    """One model in one culture."""

    extremes: tuple[Picked, ...]  #: best and worst; empty where nobody has answered half of the questions
    axes: tuple[AxisRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """Appendix F."""

    cells: tuple[ConfiguredCell, ...]

    @property
    def axes(self) -> dict[tuple[str, str, str], Axis]:
        """Culture, cell and name of every axis."""
        return {(cell.culture, cell.name, row.name): row.axis for cell in self.cells for row in cell.axes}

    @property
    def adjusted(self) -> dict[tuple[str, str, str], float]:
        """The p of every axis, Holm over all of them."""
        return dict(zip(self.axes, holm([axis.p for axis in self.axes.values()]).tolist(), strict=True))

    @property
    def testable(self) -> set[tuple[str, str, str]]:
        """The axes with a test of which p, adjusted for all of them, could be below the level."""
        least = {key: axis.least for key, axis in self.axes.items() if not isnan(axis.p)}
        return {key for key, smallest in least.items() if smallest * len(least) < LEVEL}


#: A model in a culture, and who was picked there.
_Pick = tuple[ConfiguredCell, Picked | None]


def _stored(analysis: Analysis) -> DrawArrays:
    if analysis.draws is None:
        raise NotRun("the draws of this run were not read")
    return analysis.draws


def drawn(analysis: Analysis) -> tuple[tuple[str, str, str, int], ...]:
    """Culture, axis, label of a level, and how often that was drawn by the participants of the main condition.

    Equal participants of different models share the draws of one seed and count once.
    """
    draws = _stored(analysis)
    found, seeds = [], [run.protocol.seed for run in run_of_cells(analysis.results.run)]
    seed = np.unique(seeds, return_inverse=True)[1][draws.cell]
    for culture in analysis.cultures:
        mine = [cell.place for cell in main_cells_of(analysis, culture)]
        here = _distinct(draws, seed, np.flatnonzero(np.isin(draws.cell, mine)))
        for name, level, labels in _axes(draws, here):
            counts = Counter(labels[place] for place in level[level >= 0].tolist())
            ordered = sorted(counts.items(), key=lambda pair: (not pair[0][:1].isdigit(), len(pair[0]), pair[0]))
            found += [(culture.culture.code, name, label, count) for label, count in ordered]
    return tuple(found)


def _distinct(draws: DrawArrays, seed: Ints, here: Ints) -> Ints:
    """One row per seed, participant and draw; where an engine left an axis to its provider, that of one that did not.

    Participants of runs with different seeds are others, though they may happen to have drawn the same.
    """
    unknown = np.isnan(draws.num_beams[here]).astype(np.int64) + np.isnan(draws.do_sample[here])
    here = here[np.argsort(unknown, kind="stable")]
    shared = (seed, draws.participant, draws.question, draws.memory_capacity, draws.region)
    rows = np.stack([column[here] for column in (*shared, draws.num_beams, draws.do_sample)], axis=1)
    found: dict[tuple[float, ...], list[list[float]]] = {}
    kept = []
    for place, row in zip(here.tolist(), rows.tolist(), strict=True):
        decoded, others = row[len(shared) :], found.setdefault(tuple(row[: len(shared)]), [])
        if not any(all(isnan(a) or a == b for a, b in zip(decoded, other, strict=True)) for other in others):
            others.append(decoded)
            kept.append(place)
    return np.array(sorted(kept), dtype=np.int64)


def configured(analysis: Analysis) -> Configured:
    """Appendix F: the participants with the lowest and highest divergence, and every axis, per model and culture."""
    draws, found = _stored(analysis), []
    if (draws.question >= 0).any():
        raise NotRun("axes were drawn anew for every question: no participant has a configuration of its own")
    for cell in main_cells(analysis):
        here = np.flatnonzero(draws.cell == cell.place)
        by_question = _by_question(analysis, cell)
        if here.size and len(by_question) and not np.isnan(mean_known(by_question)).all():
            found.append((cell, by_question, here))
    if not found:
        raise NotRun("no participant has a valid answer")
    return Configured(cells=tuple(_cell(cell, values, draws, here, len(found)) for cell, values, here in found))


def _by_question(analysis: Analysis, cell: CellAnalysis) -> Floats:
    """Divergence of each participant's own answers, less what is due to the questions it happened to answer, (P, Q)."""
    grouping = analysis.items.grouping
    values = grouped_mean(cell.participant_kl, grouping.question, grouping.questions)
    typical = mean_known(values.T)
    return np.asarray(values - typical + float(mean_known(typical)), dtype=np.float64)


def _cell(cell: CellAnalysis, by_question: Floats, draws: DrawArrays, here: Ints, cells: int) -> ConfiguredCell:
    rng, drawn_axes = np.random.default_rng(CONFIGURATION_SEED), _axes(draws, here)
    # every axis of every cell is one of the tests that Holm corrects together
    fine = rearrangements_for(cells * len(drawn_axes))
    row = {int(draws.participant[place]): int(place) for place in here}
    found = extremes(by_question, seed=CONFIGURATION_SEED) if pickable(by_question).any() else ()
    picked = [_picked(draws, row.get(v.participant), how, v) for how, v in zip(("best", "worst"), found, strict=False)]
    means, axes = mean_known(by_question)[draws.participant[here]], []
    for name, levels, labels in drawn_axes:
        axis = axis_of(means, np.where(levels < 0, np.nan, levels), rng, rearrangements=fine)
        axes.append(AxisRow(name=name, labels=tuple(labels[int(level.level)] for level in axis.levels), axis=axis))
    return ConfiguredCell(cell=cell, extremes=tuple(picked), axes=tuple(axes))


def _axes(draws: DrawArrays, here: Ints) -> tuple[tuple[str, Ints, tuple[str, ...]], ...]:
    """Per axis: its name, each row's level (-1: not known), and the labels of the levels."""
    beams, sample = draws.num_beams[here], draws.do_sample[here]
    most = int(np.nanmax(beams)) if (~np.isnan(beams)).any() else 0
    return (
        ("beams", np.where(np.isnan(beams), -1, beams).astype(np.int64), tuple(str(n) for n in range(most + 1))),
        ("sampling", np.where(np.isnan(sample), -1, sample).astype(np.int64), ("off", "on")),
        ("memory", np.searchsorted(MEMORY_ENDS, draws.memory_capacity[here]).astype(np.int64), MEMORY_NAMES),
        ("region", draws.region[here].astype(np.int64), draws.regions),
    )


def _picked(draws: DrawArrays, row: int | None, label: str, value: Extreme) -> Picked:
    """One whose draws were not read has no configuration that is known."""
    num_beams = do_sample = memory = region = "not known"
    if row is not None:
        beams, sample, place = draws.num_beams[row], draws.do_sample[row], int(draws.region[row])
        num_beams = "provider default" if np.isnan(beams) else str(int(beams))
        do_sample = "provider default" if np.isnan(sample) else "on" if sample else "off"
        memory = str(int(draws.memory_capacity[row]))
        region = draws.regions[place] if place >= 0 else "the country alone"
    return Picked(label=label, value=value, num_beams=num_beams, do_sample=do_sample, memory=memory, region=region)


@section("appendix-f", "App. F · Configurations", "Best and worst configurations", "Appendix F")
def configuration_section(analysis: Analysis, section: Section) -> Section:
    """Appendix F."""
    part = analysis.figure(configured)
    own = (
        "A participant's figure is the mean divergence of its own answers over all questions, what is due to the "
        "questions it happened to answer taken off."
    )
    levels = Fold(anchor="appendix-f-levels", title="Every level of every axis", tables=(_levels(analysis, part),))
    return replace(
        section,
        title=_moving(part) or section.title,
        paragraphs=(*_untested(analysis, part), WARNING, own),
        tables=(_extremes(analysis, part), _axes_table(analysis, part)),
        folds=(levels,),
    )


def _moving(part: Configured) -> str:
    """How many axes go with the divergence, of those that could be tested; empty where none could."""
    adjusted, testable = part.adjusted, part.testable
    if not testable:
        return ""
    moving, others = sum(adjusted[key] < LEVEL for key in testable), len(adjusted) - len(testable)
    verb, rest = "go" if moving > 1 else "goes", f"; {others} could not be tested" if others else ""
    begin = f"{moving or 'None'} of the {len(testable)} axes that could be tested"
    return f"{begin} {verb} with the divergence beyond chance{rest}"


def _untested(analysis: Analysis, part: Configured) -> tuple[str, ...]:
    """Which axes could not be tested: their levels have too few participants for any p to be small enough."""
    names, axes, testable = named_cultures(analysis), part.axes, part.testable
    several = len({cell.name for cell in part.cells}) > 1
    cells: dict[str, list[str]] = {}
    for culture, name, axis in axes:
        if (culture, name, axis) not in testable:
            cells.setdefault(axis, []).append(f"{name} in {names[culture]}" if several else names[culture])
    of = {axis: listed(c) if len(c) <= NAMED else f"{len(c)} of {len(part.cells)} cells" for axis, c in cells.items()}
    untested = "; ".join(f"{axis} ({where})" for axis, where in of.items())
    few = f"for too few participants, or one level only (p is adjusted for all {counted(len(axes), 'axis', 'axes')})"
    said = f"An axis is tested for each model and culture by itself. Not testable, {few}: {untested}."
    return (said,) if untested else ()


def _extremes(analysis: Analysis, part: Configured) -> Table:
    none = Entry(NONE, why="no participant has answered half of the questions")

    def of(text: str, entry: Callable[[Picked], Entry | str], meaning: str = "") -> Field[_Pick]:
        return Field(text, lambda row: none if row[1] is None else entry(row[1]), meaning)

    rows: list[_Pick] = [(cell, each) for cell in part.cells for each in cell.extremes or (None,)]
    fields: list[Field[_Pick]] = [
        Field("Model", lambda row: row[0].name + (f", {row[1].label}" if row[1] else ""), words=True),
        of("Participant", lambda each: str(each.value.participant)),
        of("Beams", lambda each: each.num_beams),
        of("Sampling", lambda each: each.do_sample),
        of("Memory", lambda each: each.memory, "capacity"),
        Field("Region", lambda row: _region(analysis, row[0].culture, row[1].region) if row[1] else none),
        of("Divergence", lambda each: fixed(each.value.value), "mean smoothed KL of its own answers, nats"),
        of("95% interval", lambda each: _interval(each.value.interval), "questions resampled"),
    ]
    caption = "The participants with the lowest and the highest divergence, picked after the fact"
    notes = ("Only participants that answered at least half of the questions are picked from.",)
    return culture_table(analysis, rows, fields, "appendix-f-extremes", caption, notes=notes)


def _interval(interval: Interval) -> Entry:
    return interval_entry(interval.low, interval.high, least=0.0, reason=interval.reason)


def _region(analysis: Analysis, culture: str, code: str) -> str:
    """The English name of a region, or what stands in its place."""
    regions = {region.code: region for region in analysis.results.survey.culture(culture).regions}
    return regions[code].name.get("en", code) if code in regions else code


def _axes_table(analysis: Analysis, part: Configured) -> Table:
    adjusted = part.adjusted

    def p(cell: ConfiguredCell, at: int) -> Entry:
        row = cell.axes[at]
        found, means = adjusted[cell.culture, cell.name, row.name], [level.mean for level in row.axis.levels]
        spread = f"{fixed(min(means), 2)}–{fixed(max(means), 2)}" if len(means) > 1 else ""
        return Entry(chance(found), spread, why="one level, or too few participants" if isnan(found) else "")

    fields = [MODEL, *fields_of([(row.name.capitalize(), "") for row in part.cells[0].axes], p)]
    caption = "Does an axis go with the divergence? p, Holm over all of them; beneath, lowest and highest level mean"
    notes = ("Levels are dealt out anew among participants; a level that few drew has a mean that varies much.",)
    return culture_table(analysis, part.cells, fields, "appendix-f-axes", caption, notes=notes)


def _levels(analysis: Analysis, part: Configured) -> Table:
    rows = []
    for cell, row in ((each, row) for each in part.cells for row in each.axes):
        for label, level in zip(row.labels, row.axis.levels, strict=True):
            rows.append((cell, f"{cell.name}, {row.name}: {_region(analysis, cell.culture, label)}", level))
    fields: list[Field[tuple[ConfiguredCell, str, Level]]] = [
        Field("Level", lambda row: row[1], words=True),
        Field("Participants", lambda row: str(row[2].participants)),
        Field("Mean", lambda row: fixed(row[2].mean)),
        Field("95% interval", lambda row: _interval(row[2].interval), "t interval over participants"),
    ]
    caption = "Mean divergence of the participants at each level (nats)"
    return culture_table(analysis, rows, fields, "appendix-f-level-means", caption)


@section("draws", "Draws", "What participants drew")
def draw_section(analysis: Analysis, section: Section) -> Section:
    """How often each level of each axis was drawn."""
    levels, totals = analysis.figure(drawn), Counter[tuple[str, str]]()
    for code, axis, _, count in levels:
        totals[code, axis] += count
    rows = [(code, f"{axis}: {_region(analysis, code, of)}", n, n / totals[code, axis]) for code, axis, of, n in levels]
    fields: list[Field[tuple[str, str, int, float]]] = [
        Field("Level", lambda row: row[1], words=True),
        Field("Draws", lambda row: f"{row[2]:,}"),
        Field("Share of the axis", lambda row: Entry(percent(row[3]), bar=row[3])),
    ]
    shown = culture_table(analysis, rows, fields, "draws-levels", "Levels drawn, by culture")
    anew = (_stored(analysis).question >= 0).any()
    when = "Drawn anew for every question." if anew else "Drawn once per participant."
    shared = "Equal participants of different models share the draws of one seed and count once."
    return replace(section, paragraphs=(f"{when} {shared}",), tables=(shown,))
