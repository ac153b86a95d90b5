"""Any survey as one table: a row per option, in long form."""

from __future__ import annotations

import re
from pathlib import Path

from defsurvey.storage.surveys.catalogue import find_survey
from defsurvey.storage.surveys.importers.cultures import DATA, read_populations
from defsurvey.storage.surveys.importers.delimited import Header, read_header, read_rows
from defsurvey.storage.surveys.importers.imported import Imported, language_notes, number_notes
from defsurvey.storage.surveys.importers.table_rows import Row, TableReader
from defsurvey.storage.surveys.problem import nearest, one_of
from defsurvey.storage.surveys.survey import Survey, SurveyError

REQUIRED = ("question", "type", "code", "culture")
AMOUNTS = ("percent", "count")
OPTIONAL = (
    "topic",
    "max_choices",
    "residual",
    "dimension",
    "direction",
    "basis",
    "core",
    "group",
    "n",
    "low_n",
    "source",
)
_WORDED = re.compile(r"(text|label)_([a-z]{2,3}(-[A-Za-z0-9]{2,8})*)")
#: A table that is imported is held in memory; what is larger is no table of shares.
LARGEST = 256 * 2**20


def import_table(
    path: Path,
    *,
    id: str,
    title: str | None = None,
    citation: str | None = None,
    terms: str | None = None,
    cultures: Path | None = None,
) -> Imported:
    """The survey that a table in long form holds.

    Args:
        path: a delimited file (comma, semicolon or tab; UTF-8), see docs/importing.md.
        id: of the survey.
        title: as reports print it; the file's name by default.
        citation: whom to cite; the file's name by default.
        terms: on which its figures may be used.
        cultures: the user's own table of cultures, see ``read_populations``.

    Raises:
        Fault: a row is not as asked for; line and column are told.
    """
    header = _header(path)
    languages = tuple(name[5:] for name in header.names if name.startswith("text_"))
    reader = TableReader(header=header, languages=languages, populations=read_populations(cultures))
    for line, cells in read_rows(header):
        reader.read(Row(header=header, line=line, cells=dict(zip(header.names, map(str.strip, cells), strict=True))))
    questions = tuple(reader.question(name) for name in reader.drafts)
    references = tuple(reader.reference(key) for key in reader.answers)
    if not questions:
        raise header.fault(2, "question", "at least one row", "")
    populations = reader.populations.chosen(dict.fromkeys(reference.culture for reference in references))
    known = find_survey("wvs7").dimensions
    codes = dict.fromkeys(code for question in questions for code in question.dimensions)
    survey = Survey(
        id=id,
        title=title or path.stem,
        version="1",
        citation=citation or f"No citation was given; the figures are those of {path.name}.",
        terms=terms or "Not stated.",
        languages=languages,
        dimensions={code: {lang: known.get(code, {}).get(lang, code) for lang in languages} for code in codes},
        questions=questions,
        cultures=tuple(population.culture(languages) for population in populations),
        references=references,
    )
    notes = (f"{len(questions)} questions", *number_notes(questions), *language_notes(survey.cultures))
    return Imported(survey=survey, notes=notes)


def _header(path: Path) -> Header:
    header = read_header(path)
    if path.stat().st_size > LARGEST:
        raise header.fault(1, "", f"a table of at most {LARGEST // 2**20} MiB", f"{path.stat().st_size:,} bytes")
    languages = [match[2] for match in map(_WORDED.fullmatch, header.names) if match and match[1] == "text"]
    header.require((*REQUIRED, *(f"label_{language}" for language in languages)))
    known = (*REQUIRED, *AMOUNTS, *OPTIONAL, *(f"{kind}_{lang}" for lang in languages for kind in ("text", "label")))
    for name in header.names:
        if name not in known:
            raise header.fault(1, name, f"one of the columns {', '.join(known)}", name, nearest(name, known))
    if not languages:
        header.require(("text_en",))
    if sum(name in header.names for name in AMOUNTS) != 1:
        raise header.fault(1, "header", "one of the columns percent and count", one_of(header.names))
    if "percent" in header.names:
        header.require(("n",))
    return header


#: The table that ``survey template`` writes: two cultures, every type of question.
TEMPLATE = DATA / "table_template.csv"


def write_template(path: Path) -> None:
    """Write an example table that can be imported as it is.

    Raises:
        SurveyError: there is a file of that name already.
    """
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise SurveyError(f"{path}: expected a place where nothing is yet, got a file; it is kept") from None
