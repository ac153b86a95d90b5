"""What more than one figure is computed from: which cells they are about, contrasts, means, matching, and the map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, isfinite

import numpy as np
from scipy.special import ndtri

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Bools, Contrast, Floats, Plan, answered, compare, contrasts, uniform_shares
from defsurvey.reports.metrics.aggregate import Means, grouped_mean, grouped_sum, mean_known
from defsurvey.reports.metrics.bias import Matching, matching
from defsurvey.reports.metrics.judges import Verdicts, judgeable
from defsurvey.reports.number_format import NONE, fixed
from defsurvey.reports.page import Entry, Field

#: Fewest items of which a headline speaks, and fewest of a value dimension that it names.
ENOUGH, OF_DIMENSION = 10, 4
#: A difference with a p below this is called one.
LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OfCell:
    """A row of a figure that is about one cell."""

    cell: CellAnalysis

    @property
    def name(self) -> str:
        """What the cell is called."""
        return self.cell.name

    @property
    def model(self) -> str:
        """The cell's model."""
        return self.cell.cell.model

    @property
    def culture(self) -> str:
        """Code of the cell's culture."""
        return self.cell.culture


def conditions(analysis: Analysis) -> list[str]:
    """The conditions whose answers were measured, in the run's order."""
    return list(dict.fromkeys(cell.cell.condition.name for cell in sorted(analysis.cells, key=lambda c: c.place)))


def language_of(analysis: Analysis, culture: str) -> str:
    """The language that figures of models are about: the culture's own where the run has it, or else its first."""
    languages = list(dict.fromkeys(cell.language for cell in analysis.results.run.cells if cell.culture == culture))
    native = analysis.results.survey.culture(culture).language
    return native if native in languages else languages[0]


def spoken(analysis: Analysis) -> tuple[CellAnalysis, ...]:
    """The cells of one language per culture."""
    return tuple(cell for cell in analysis.cells if cell.cell.language == language_of(analysis, cell.culture))


def main_cells(analysis: Analysis) -> tuple[CellAnalysis, ...]:
    """One cell per model and culture: the main condition, one language per culture."""
    condition = analysis.results.run.main_condition
    return tuple(cell for cell in spoken(analysis) if cell.cell.condition.name == condition)


def main_cells_of(analysis: Analysis, culture: CultureAnalysis) -> list[CellAnalysis]:
    """Those of one culture."""
    return [cell for cell in main_cells(analysis) if cell.culture == culture.culture.code]


def contrasts_of(
    analysis: Analysis, culture: CultureAnalysis, cells: Iterable[CellAnalysis], planned: Sequence[Plan]
) -> tuple[Contrast, ...]:
    """The contrasts planned between cells of a culture, all on the same questions; none where these are too few."""
    samples = {cell.name: cell.sample for cell in cells}
    compared = compare(samples, analysis.items, culture.reference) if samples and planned else None
    return () if compared is None else contrasts(compared, planned)


def paired(
    analysis: Analysis, culture: CultureAnalysis, wanted: Mapping[tuple[str, str], tuple[CellAnalysis, CellAnalysis]]
) -> dict[tuple[str, str], Contrast]:
    """Contrasts of pairs of cells, of which one with too few answers takes none from the others."""
    wanted = {key: pair for key, pair in wanted.items() if all(cell.comparable for cell in pair)}
    planned = [(cell.name, [cell.name], other.name, [other.name]) for cell, other in wanted.values()]
    involved = (cell for pair in wanted.values() for cell in pair)
    return dict(zip(wanted, contrasts_of(analysis, culture, involved, planned), strict=False))


def usable_verdicts(analysis: Analysis) -> list[Verdicts]:
    """What judges said, without what cut replies do not allow; of judges that said anything."""
    reply = analysis.results.run.protocol.reply
    return [given for each in analysis.verdicts if (given := judgeable(each, reply)).cell.size]


def items_behind(analysis: Analysis, cell: CellAnalysis) -> Floats:
    """Items of each dimension that have a value, shape (D,)."""
    grouping = analysis.items.grouping
    return grouped_sum(~np.isnan(cell.divergences.smoothed_kl), grouping.dimension, grouping.dimensions)


def nameable(items: Sequence[Floats]) -> Bools:
    """The value dimensions, shape (D,), that a headline may name: with items enough in each row and in all."""
    fewest = np.min(items, axis=0)
    named = fewest >= OF_DIMENSION
    return np.asarray(named & (fewest[named].sum() >= ENOUGH))


def excess(cells: Sequence[CellAnalysis]) -> tuple[Floats, Floats]:
    """Mean excess of some cells and its standard error, both of shape (D,); nan where one has none, or no interval.

    An interval reaches 1.96 standard errors to both sides together; cells are of different participants.
    """
    width = np.array([[each.high - each.low for each in cell.intervals.by_dimension] for cell in cells])
    errors = width / (2 * float(ndtri(0.975)))
    means = mean_known(np.stack([cell.sound.by_dimension - cell.sound_floor.by_dimension for cell in cells], axis=-1))
    return means, np.asarray(np.sqrt((errors**2).sum(axis=0)) / len(cells), dtype=np.float64)


def apart(gap: float, errors: tuple[float, float], comparisons: int) -> bool:
    """Whether two means of these standard errors lie further apart than chance would put any of so many pairs.

    >>> apart(.3, (.1, .1), 1), apart(.3, (.1, .1), 36), apart(.3, (.1, float("nan")), 1)
    (True, False, False)
    """
    return gap > float(ndtri(1 - LEVEL / (2 * comparisons))) * hypot(*errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class CulturesMean:
    """The mean over the cultures in which a model and condition has a figure, in one way of measuring."""

    cultures: tuple[str, ...]  #: codes; in the paper's way without those all of whose values are infinite
    known: frozenset[tuple[str, int]]  #: culture and position of every dimension that has a figure
    by_dimension: Floats  #: shape (D,)
    mean: float  #: over dimensions

    def lacks(self, others: Iterable[CulturesMean]) -> bool:
        """Whether it has no figure of a culture, or of a dimension there, of which another has one.

        It is of something else than theirs, and is compared with none.
        """
        return any(o.known - self.known or set(o.cultures) - set(self.cultures) for o in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRow:
    """One model and condition, over the cultures."""

    model: str
    condition: str
    sound: CulturesMean  #: smoothed KL
    floor: CulturesMean  #: what as many people would score
    paper: CulturesMean  #: plug-in KL by the paper's rule
    items: Floats  #: with a value, per dimension, in the culture that has the fewest, shape (D,)
    comparable: bool  #: whether it has figures, and each cell of these has answers enough for a headline
    diversity: float  #: D of Eq. 6, in [0, 1]
    relative_diversity: float  #: D over its maximum
    infinite_share: float  #: of items behind the mean with a value, in [0, 1]; mean over all cultures that have one


def mean_rows(analysis: Analysis, names: Sequence[str]) -> tuple[MeanRow, ...]:
    """Models by these conditions, every culture in its main language."""
    by_row: dict[tuple[str, str], list[CellAnalysis]] = {}
    for cell in spoken(analysis):
        by_row.setdefault((cell.cell.model, cell.cell.condition.name), []).append(cell)
    models = dict.fromkeys(cell.cell.model for cell in sorted(spoken(analysis), key=lambda cell: cell.place))
    wanted = [(model, condition) for model in models for condition in names if (model, condition) in by_row]
    return tuple(_mean_row(analysis, *row, by_row[row]) for row in wanted)


def _mean_row(analysis: Analysis, model: str, condition: str, cells: Sequence[CellAnalysis]) -> MeanRow:
    known = [cell for cell in cells if isfinite(cell.sound.headline)]
    diversity = mean_known(np.array([[cell.diversity.d, cell.diversity.relative] for cell in cells]).T)
    return MeanRow(
        model=model,
        condition=condition,
        sound=_over_cultures(cells, lambda cell: cell.sound),
        floor=_over_cultures(cells, lambda cell: cell.sound_floor),
        paper=_over_cultures(cells, lambda cell: cell.paper),
        items=np.stack([items_behind(analysis, cell) for cell in known or cells]).min(axis=0),
        comparable=bool(known) and all(cell.comparable for cell in known),
        diversity=float(diversity[0]),
        relative_diversity=float(diversity[1]),
        infinite_share=float(mean_known([cell.paper_values.infinite_share for cell in cells])),
    )


def _over_cultures(cells: Sequence[CellAnalysis], of: Callable[[CellAnalysis], Means]) -> CulturesMean:
    known = [cell for cell in cells if isfinite(of(cell).headline)]
    places = {cell.culture: np.flatnonzero(~np.isnan(of(cell).by_dimension)).tolist() for cell in known}
    return CulturesMean(
        cultures=tuple(places),
        known=frozenset((culture, place) for culture, found in places.items() for place in found),
        by_dimension=mean_known(np.stack([of(cell).by_dimension for cell in cells], axis=-1)),
        mean=float(mean_known([of(cell).headline for cell in cells])),
    )


def mean_field(text: str, rows: Sequence[MeanRow], meaning: str, *, paper: bool = False) -> Field[MeanRow]:
    """A column of means over cultures, marked where one is compared with none; of the sound way the floor beneath."""

    def entry(row: MeanRow) -> Entry:
        lost = _way(row, paper).lacks(_way(each, paper) for each in rows)
        why = "of fewer cultures or dimensions than others have: not to be compared" if lost else ""
        return Entry(fixed(_way(row, paper).mean), beneath="" if paper else fixed(row.floor.mean), why=why)

    return Field(text, entry, meaning)


def _way(row: MeanRow, paper: bool) -> CulturesMean:
    return row.paper if paper else row.sound


def fewer(rows: Sequence[MeanRow], *, paper: bool = False) -> tuple[str, ...]:
    """Notes on means that are compared with none, where there are any."""
    ways = [_way(row, paper) for row in rows]
    said = (_FEWER,) if any(way.lacks(ways) for way in ways) else ()
    lost = paper and any(row.paper.cultures != row.sound.cultures for row in rows)
    return (*said, _ALL_INFINITE) if lost else said


_FEWER = (
    "Where a culture was not asked or a dimension has no figure, for want of valid answers, the mean is of the others "
    "and is compared with none."
)
_ALL_INFINITE = (
    "A culture all of whose values are infinite has no figure in the paper's way: its rule has no finite one to add "
    "to. The share of infinite ones counts it as 100%."
)


def where_asked(analysis: Analysis, rows: Sequence[MeanRow], *, paper: bool = False) -> list[Field[MeanRow]]:
    """A column for the cultures of each row, where one has figures of only some that were asked."""
    cultures = {_way(row, paper).cultures for row in rows}
    whole = not any(cultures) or all(len(known) == len(analysis.cultures) for known in cultures)
    return [] if whole else [named_in(analysis, "Cultures", "of which the divergences are the mean", paper=paper)]


def named_in(analysis: Analysis, text: str, meaning: str, *, paper: bool) -> Field[MeanRow]:
    """A column of the cultures in which a row has figures."""
    names = {culture.culture.code: culture.name for culture in analysis.cultures}

    def cultures(row: MeanRow) -> Entry:
        return Entry(", ".join(names[code] for code in _way(row, paper).cultures) or NONE, words=True)

    return Field(text, cultures, meaning, words=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingRow(OfCell):
    """Figure 8: one model in one culture."""

    matching: Matching
    by_dimension: Floats  #: share of matching items, shape (D,)
    uniform_by_dimension: Floats  #: shape (D,)
    comparable: bool  #: whether it has answers enough to all questions for a heading


def matching_figure(analysis: Analysis) -> tuple[MatchingRow, ...]:
    """Figure 8: every model of the main condition."""
    uniform, grouping = uniform_shares(analysis.items), analysis.items.grouping
    of_dimension = grouping.dimension, grouping.dimensions
    references = {culture.culture.code: culture.reference for culture in analysis.cultures}
    rows = []
    for cell in main_cells(analysis):
        reference = references[cell.culture]
        found = matching(cell.counts, reference.shares, uniform, reference.low_n)
        rows.append(
            MatchingRow(
                cell=cell,
                matching=found,
                by_dimension=grouped_mean(found.match, *of_dimension),
                uniform_by_dimension=grouped_mean(found.uniform, *of_dimension),
                comparable=answered(cell.counts, analysis.items, reference),
            )
        )
    return tuple(rows)


def matching_shares(analysis: Analysis) -> dict[str, dict[str, float]]:
    """Culture -> cell name -> share of matching items."""
    found: dict[str, dict[str, float]] = {}
    for row in analysis.figure(matching_figure):
        found.setdefault(row.culture, {})[row.name] = row.matching.share
    return found
