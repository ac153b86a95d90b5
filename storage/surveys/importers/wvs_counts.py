"""Weighted counts of an official World Values Survey file, block by block.

A file of any size is read with the memory of one block and of the interviews' ids; each column's codes are counted by
culture, sex and age. Arrow reads blocks of cells; only where one is not as it should be is the file gone through again
line by line, to say where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from defsurvey.storage.surveys.importers.cultures import Populations
from defsurvey.storage.surveys.importers.files import Header, ends_whole, read_rows
from defsurvey.storage.surveys.importers.wvs_codes import (
    AGE,
    AGE_GROUP,
    LARGEST,
    MISSING,
    SEX,
    UNREADABLE,
    Reading,
    labels_of,
    read_cell,
)
from defsurvey.storage.surveys.problem import fault, one_of
from defsurvey.storage.surveys.tables import to_number

WEIGHT, REGION, INTERVIEW = "W_WEIGHT", "N_REGION_ISO", "D_INTERVIEW"
#: What stands in place of a weight in the files of countries that made none: each respondent counts as 1.
_NO_WEIGHTS = "no weighting"
COUNTRY = ("B_COUNTRY_ALPHA", "B_COUNTRY")
#: Slots of a count: codes 0 to LARGEST, then what is missing and what is no code that is counted.
SLOTS = LARGEST + 3
MISSING_SLOT, OTHER_SLOT = LARGEST + 1, LARGEST + 2
#: What is summed of the respondents in a slot: their weights, these squared, and 1 for each whose weight is not 0.
MEASURES, WEIGHTS, SQUARES, RESPONDENTS = 3, 0, 1, 2
SEXES, AGES = 3, 4  #: unknown, male, female; unknown, up to 29, 30 to 49, 50 and more
TOTALS = ("people", "unweighted", "even", "weights", "squares")
_BLOCK = 16 * 2**20
#: No respondent stands for more people.
_HEAVIEST = 1e12

Cells = tuple[list[str], NDArray[np.int32]]  #: the texts of a column of a block, and which one each row has


@dataclass(slots=True, kw_only=True)
class Counts:
    """What was counted."""

    cultures: list[str] = field(default_factory=list)  #: codes, in order of appearance or as chosen
    #: column -> (culture, measure, sex, age, slot)
    answers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    #: Of each culture its ``people``, those left out since their weight is 0 (``unweighted``), those with no weighting
    #: (``even``), the sum of the ``weights`` and that of their ``squares``.
    totals: dict[str, NDArray[np.float64]] = field(default_factory=lambda: {name: np.zeros(0) for name in TOTALS})
    regions: dict[tuple[int, str], float] = field(default_factory=dict)  #: (culture, cell) -> weight
    #: (column, text of its cells, what they are read as) -> respondents, for texts that are no known label
    matches: dict[tuple[str, str, Reading], int] = field(default_factory=dict)

    def grow(self, code: str) -> int:
        """Make room for a further culture; its index."""
        self.cultures.append(code)
        self.totals = {name: np.append(total, 0) for name, total in self.totals.items()}
        for column, array in self.answers.items():
            self.answers[column] = np.concatenate([array, np.zeros((1, *array.shape[1:]))])
        return len(self.cultures) - 1


class Counter:
    """Counts a file."""

    def __init__(
        self, header: Header, columns: Sequence[str], *, populations: Populations, chosen: Sequence[str] = ()
    ) -> None:
        """Prepare to count columns of a file for the cultures of these codes; none: for all, and all must be known."""
        self.header = header
        self.columns = tuple(columns)
        self.country = next(name for name in COUNTRY if name in header.names)
        self.counts = Counts(answers={name: np.zeros((0, MEASURES, SEXES, AGES, SLOTS)) for name in self.columns})
        self._populations = populations
        self._index = {code: self.counts.grow(code) for code in chosen}
        self._open = not chosen
        self._readings: dict[tuple[str, str], Reading] = {}
        self._interviews: set[tuple[int, str]] = set()

    def count(self) -> Counts:
        """Go through the file; raises Fault where something in it is not as it should be, with line and column."""
        if next(read_rows(self.header), None) is None:
            raise fault(self.header.path.name, "respondents", "none", line=2)
        if not ends_whole(self.header):
            self._go_through()  # Arrow closes the last quote itself, and would take half a number for a number
        try:
            for block in self._blocks():
                self._count(block)
        except pa.ArrowInvalid as error:
            self._go_through()
            told = str(error).partition("\n")[0][:200]
            raise fault(self.header.path.name, "a table", told) from None
        return self.counts

    def _go_through(self) -> None:
        """Raise the fault of the first row that is no row of the table, if there is one."""
        for _ in read_rows(self.header):
            pass

    def _blocks(self) -> Iterator[Mapping[str, Cells]]:
        used = [self.country, WEIGHT, *self.columns]
        used += [
            name for name in (SEX, AGE_GROUP, AGE, REGION, INTERVIEW) if name in self.header.names and name not in used
        ]
        numbered = [f"{position}" for position in range(len(self.header.names))]
        places = {name: numbered[self.header.names.index(name)] for name in used}
        text = pa.dictionary(pa.int32(), pa.utf8())
        reader = arrow_csv.open_csv(
            self.header.path,
            read_options=arrow_csv.ReadOptions(column_names=numbered, skip_rows=self.header.lines, block_size=_BLOCK),
            parse_options=arrow_csv.ParseOptions(delimiter=self.header.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(places.values()),
                column_types=dict.fromkeys(places.values(), text),
                strings_can_be_null=False,
            ),
        )
        with reader:
            for batch in reader:
                yield {
                    name: (column.dictionary.to_pylist(), column.indices.to_numpy())
                    for name, column in zip(used, batch.columns, strict=True)
                }

    def _count(self, block: Mapping[str, Cells]) -> None:
        which = self._each(block[self.country], self._culture)
        weights = self._each(block[WEIGHT], self._weight)
        if (which == UNREADABLE).any():
            which = np.where(self._empty(block), MISSING, which)
        meant = which != MISSING
        if (which == UNREADABLE).any() or np.isnan(weights[meant]).any():
            self._locate()
        rows = np.flatnonzero(meant)
        culture, weight = which[rows].astype(np.int64), weights[rows]
        if INTERVIEW in block and not self._are_new(block[INTERVIEW], rows, culture):
            self._locate()
        even = self._each(block[WEIGHT], _is_unweighted)[rows].astype(bool)
        for name, each in zip(TOTALS, (weight >= 0, weight == 0, even, weight, weight**2), strict=True):
            self.counts.totals[name] += np.bincount(culture, weights=each, minlength=len(self.counts.cultures))
        group = (culture * SEXES + self._sex(block, rows)) * AGES + self._age(block, rows)
        for column in self.columns:
            codes = self._coded(column, block[column], rows)
            slot = np.where(codes > LARGEST, OTHER_SLOT, np.where(codes == MISSING, MISSING_SLOT, codes))
            self._add(column, group * SLOTS + slot, weight)
        if REGION in block:
            self._add_regions(block[REGION], rows, culture, weight)

    def _empty(self, block: Mapping[str, Cells]) -> NDArray[np.bool_]:
        """Rows without anything that is counted, as spreadsheets write them where something once was."""
        filled = np.sum([self._each(cells, lambda cell: bool(cell.strip())) for cells in block.values()], axis=0)
        empty: NDArray[np.bool_] = np.equal(filled, 0)
        return empty

    def _are_new(self, cells: Cells, rows: NDArray[np.int64], culture: NDArray[np.int64]) -> bool:
        """Whether no interview of the rows stands twice in the file, as far as it was read; ids may be missing."""
        texts, which = cells
        found = [
            (country, texts[place])
            for country, place in zip(culture.tolist(), which[rows].tolist(), strict=True)
            if _identifies(texts[place])
        ]
        before = len(self._interviews)
        self._interviews.update(found)
        return len(self._interviews) == before + len(found)

    def _add(self, column: str, key: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
        counted = self.counts.answers[column]
        size, shape = counted[:, WEIGHTS].size, counted[:, WEIGHTS].shape
        for measure, each in ((WEIGHTS, weight), (SQUARES, weight**2), (RESPONDENTS, weight > 0)):
            counted[:, measure] += np.bincount(key, weights=each, minlength=size).reshape(shape)

    def _add_regions(
        self, cells: Cells, rows: NDArray[np.int64], culture: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> None:
        texts, which = cells
        summed = np.bincount(culture * len(texts) + which[rows], weights=weight)
        for key in np.flatnonzero(summed):
            place = (int(key) // len(texts), texts[int(key) % len(texts)])
            self.counts.regions[place] = self.counts.regions.get(place, 0.0) + float(summed[key])

    def _sex(self, block: Mapping[str, Cells], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        if SEX not in block:
            return np.zeros(len(rows), np.int64)
        codes = self._coded(SEX, block[SEX], rows)
        return np.where((codes == 1) | (codes == 2), codes, 0)

    def _age(self, block: Mapping[str, Cells], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The age group; from the age in years where the group is missing."""
        group = np.zeros(len(rows), np.int64)
        if AGE_GROUP in block:
            codes = self._coded(AGE_GROUP, block[AGE_GROUP], rows)
            group = np.where((codes >= 1) & (codes <= 3), codes, 0)
        if AGE in block:
            years = self._coded(AGE, block[AGE], rows)
            from_years = np.where(years < 0, 0, np.digitize(years, (30, 50)) + 1)
            group = np.where(group == 0, from_years, group)
        return group

    def _coded(self, column: str, cells: Cells, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        texts, which = cells[0], cells[1][rows]
        readings = [self._read(column, text) for text in texts]
        codes = np.array([reading.code for reading in readings], np.int64)[which]
        if (codes == UNREADABLE).any():
            self._locate()
        for place, reading in enumerate(readings):
            people = int(np.count_nonzero(which == place)) if reading.label else 0
            if people:
                match = (column, texts[place].strip(), reading)
                self.counts.matches[match] = self.counts.matches.get(match, 0) + people
        return codes

    def _read(self, column: str, cell: str) -> Reading:
        if (column, cell) not in self._readings:
            self._readings[column, cell] = read_cell(column, cell)
        return self._readings[column, cell]

    def _each(self, cells: Cells, read: Callable[[str], float]) -> NDArray[np.float64]:
        texts, which = cells
        return np.array([read(text) for text in texts], np.float64)[which]

    def _culture(self, cell: str) -> int:
        """Index of the culture, MISSING for one that is not counted, UNREADABLE for one that is not known."""
        row = self._populations.find(cell)
        if row is None:
            return UNREADABLE if self._open else MISSING
        if row.code not in self._index:
            if not self._open:
                return MISSING
            self._index[row.code] = self.counts.grow(row.code)
        return self._index[row.code]

    def _weight(self, cell: str) -> float:
        if _is_unweighted(cell):
            return 1.0
        text = cell.strip()
        weight = to_number(text if self.header.delimiter == "," else text.replace(",", "."), _HEAVIEST)
        return math.nan if weight is None else weight

    def _locate(self) -> None:
        """Raise the fault of the first cell that cannot be read, or of the first interview that stands twice."""
        asked = [name for name in (*self.columns, SEX, AGE_GROUP, AGE) if name in self.header.names]
        lines: dict[tuple[int, str], int] = {}
        for line, cells in read_rows(self.header):
            row = dict(zip(self.header.names, cells, strict=True))
            country, interview = row[self.country].strip(), row.get(INTERVIEW, "")
            culture = self._culture(country)
            if culture == UNREADABLE:
                expected = "a country that is known; others are added with --cultures FILE"
                raise self.header.fault(line, self.country, expected, country, self._populations.near(country))
            if culture == MISSING:
                continue
            if math.isnan(self._weight(row[WEIGHT])):
                raise self.header.fault(line, WEIGHT, "a weight, 0 or more", row[WEIGHT])
            for name in asked:
                reading = self._read(name, row[name])
                if reading.code == UNREADABLE:
                    labels = labels_of(name)
                    expected = f"a code or one of the labels {one_of(labels)}" if labels else "a number"
                    raise self.header.fault(line, name, expected, row[name], reading.doubt)
            first = lines.setdefault((culture, interview), line) if _identifies(interview) else line
            if first != line:
                expected = "every interview once; take the repeated rows out of the file"
                raise self.header.fault(line, INTERVIEW, expected, interview, f" again, first on line {first}")


def _is_unweighted(cell: str) -> bool:
    return " ".join(cell.casefold().split()) == _NO_WEIGHTS


def _identifies(interview: str) -> bool:
    """Whether the id of an interview is one, and none of the codes for a missing one."""
    text = interview.strip()
    return bool(text) and not text.startswith("-")
