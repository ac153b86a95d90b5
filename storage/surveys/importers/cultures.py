"""Which populations importers know: their codes, names and languages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.importers.files import DATA, read_dicts, read_header
from defsurvey.storage.surveys.problem import SurveyError, UnknownName, nearest
from defsurvey.storage.surveys.survey import Culture, Region

#: Columns of the table, each with what may stand in it and how errors call that.
_RULES = {
    "code": (r"[a-z0-9]+(-[a-z0-9]+)*", "a code of small letters and digits, such as us"),
    "alpha3": (r"[A-Z]{3}|", "an ISO 3166 code of three capital letters, or nothing"),
    "numeric": (r"[0-9]{1,6}|", "an ISO 3166 number, or nothing"),
    "name_en": (r".+", "a name"),
    "language": (r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", "a language code such as en, zh or pt-BR"),
}
COLUMNS = ("code", "alpha3", "numeric", "name_en", "name_zh", "language", "aliases", "article")
#: A number as a file may have it: ``840``, or ``840.0`` where its column had empty cells.
_NUMBER = re.compile(r"([0-9]{1,9})(?:[.,]0+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """A row of the table."""

    code: str  #: of the culture in surveys, e.g. ``us``
    alpha3: str  #: ISO 3166-1 alpha-3, or empty
    numeric: str  #: ISO 3166-1 numeric without leading zeros, or empty
    names: Mapping[str, str]  #: language -> name; English always
    language: str  #: in which most of its people are interviewed
    aliases: tuple[str, ...] = ()  #: other names under which files know it
    article: str = ""  #: that English puts before its name within a sentence: ``the``, or nothing

    def culture(self, languages: Sequence[str], regions: tuple[Region, ...] = ()) -> Culture:
        """The culture of a survey worded in ``languages``: where its own is missing, English or the first stands in."""
        worded = self.language in languages
        stand_in = "en" if "en" in languages else languages[0]
        return Culture(
            code=self.code,
            name={language: self.names.get(language) or self.names["en"] for language in languages},
            language=self.language if worded else stand_in,
            spoken="" if worded else self.language,
            regions=regions,
            in_sentence=f"{self.article} {self.names['en']}" if self.article else "",
        )


class Populations:
    """The table, and how names are found in it."""

    def __init__(self, rows: Iterable[Population]) -> None:
        self._by_name: dict[str, Population] = {}
        self._rows = {row.code: row for row in rows}
        for row in self._rows.values():
            for name in (row.code, row.alpha3, row.numeric, *row.names.values(), *row.aliases):
                if name:
                    self._by_name[_key(name)] = row

    def find(self, name: str) -> Population | None:
        """The population of that code, number, name or alias, whatever its case; None if there is none."""
        return self._by_name.get(_key(name))

    def near(self, name: str) -> str:
        """The nearest of three letters and English names, which files are likely to have, as an error puts it."""
        known = (known for row in self._rows.values() for known in (row.alpha3, row.names["en"]) if known)
        return nearest(name.strip(), known)

    def named(self, name: str) -> Population:
        """Like ``find``; raises UnknownName where there is none."""
        if found := self.find(name):
            return found
        expected = f"one of the {len(self._rows)} known{self.near(name)}; others are added with --cultures FILE"
        raise UnknownName(f"country {name!r}: expected {expected}")

    def chosen(self, names: Iterable[str]) -> tuple[Population, ...]:
        """The populations of these names, each once, in that order; raises UnknownName."""
        return tuple({row.code: row for row in map(self.named, names)}.values())


def _key(name: str) -> str:
    stripped = name.strip()
    number = _NUMBER.fullmatch(stripped)
    return str(int(number[1])) if number else " ".join(stripped.casefold().split())


def read_populations(extra: Path | None = None) -> Populations:
    """The known populations, and those of a user's own file (docs/importing.md), whose names win; raises Fault."""
    own = {row.code: row for row in _read(extra)} if extra else {}
    return Populations((*(row for row in _read(DATA / "cultures.csv") if row.code not in own), *own.values()))


def _read(path: Path) -> list[Population]:
    header = read_header(path)
    header.require(("code", "name_en", "language"))
    header.check_names((*COLUMNS, *(name for name in header.names if name.startswith("name_"))))
    found: list[Population] = []
    for row in read_dicts(header):
        for field, (pattern, expected) in _RULES.items():
            if not re.fullmatch(pattern, row.get(field)):
                raise row.fault(field, expected)
        found.append(
            Population(
                code=row.get("code"),
                alpha3=row.get("alpha3"),
                numeric=row.get("numeric").lstrip("0"),
                names={name[5:]: cell for name, cell in row.cells.items() if name.startswith("name_") and cell},
                language=row.get("language"),
                aliases=tuple(filter(None, map(str.strip, row.get("aliases").split("|")))),
                article=row.get("article"),
            )
        )
    if not found:
        raise SurveyError(f"{path.name}: expected a row for each population, got none")
    return found
