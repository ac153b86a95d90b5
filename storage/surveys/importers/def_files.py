"""Where the dataset of Liu et al. (2025) has what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.importers.cultures import DATA
from defsurvey.storage.surveys.importers.delimited import read_header, read_rows
from defsurvey.storage.surveys.importers.imported import inside, told
from defsurvey.storage.surveys.survey import Group, SurveyError

QUESTIONNAIRE, REFERENCES, TYPES, LEADING = (
    "_questionaires.txt",
    "_ref_score_all.csv",
    "Question_type.xlsx",
    "Character.xlsx",
)
#: Group -> the file with its respondents.
RESPONDENTS: Mapping[Group, str] = {
    Group.ALL: "final_all.csv",
    Group.MALE: "final_male.csv",
    Group.FEMALE: "final_female.csv",
    Group.AGE_LE29: "final_29.csv",
    Group.AGE_30_49: "final_30.csv",
    Group.AGE_50PLUS: "final_50.csv",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The files of one part: a survey of one culture, in one or more languages."""

    name: str
    culture: str
    questionnaires: Mapping[str, Path]  #: language -> file; at least one
    references: Path
    respondents: Mapping[Group, Path]
    types: Path | None
    leading: Path | None


def find_parts(folder: Path) -> tuple[Part, ...]:
    """The parts of which there are questions and reference scores.

    Raises:
        SurveyError: there is none, or there are two files where one is expected.
        Fault: a file lies outside the folder.
    """
    if not folder.is_dir():
        raise SurveyError(f"{folder}: expected a folder, got {'a file' if folder.exists() else 'nothing'}")
    files = [inside(folder, path) for path in sorted(folder.rglob("*")) if _is_wanted(path.name)]
    layout = _layout()
    present = {
        name: {
            row["language"]: path for row in rows if (path := _one(folder, files, row["questionnaire"] + QUESTIONNAIRE))
        }
        for name, rows in layout.items()
    }
    parts = [name for name, found in present.items() if found]
    found = [_part(folder, files, name, present[name], layout, alone=len(parts) == 1) for name in parts]
    complete = tuple(part for part in found if part is not None)
    if not complete:
        wanted = told(row["questionnaire"] + QUESTIONNAIRE for rows in layout.values() for row in rows)
        raise SurveyError(
            f"{folder}: expected {wanted}, each with its *{REFERENCES}, got {told(p.name for p in files) or 'none'}"
        )
    return complete


def _is_wanted(name: str) -> bool:
    ends = (QUESTIONNAIRE, REFERENCES)
    return name.endswith(ends) or name in (TYPES, LEADING, *RESPONDENTS.values())


def _layout() -> dict[str, list[dict[str, str]]]:
    header = read_header(DATA / "def_layout.csv")
    found: dict[str, list[dict[str, str]]] = {}
    for _, cells in read_rows(header):
        row = dict(zip(header.names, cells, strict=True))
        found.setdefault(row["part"], []).append(row)
    return found


def _part(
    folder: Path,
    files: Sequence[Path],
    name: str,
    questionnaires: Mapping[str, Path],
    layout: Mapping[str, Sequence[Mapping[str, str]]],
    *,
    alone: bool,
) -> Part | None:
    """None where there are no reference scores."""
    others = [other for other in layout if other != name]
    own = [path for path in files if _is_of(folder, path, name, others, alone=alone)]
    names = [f"{prefix}{REFERENCES}" for row in layout[name] for prefix in row["references"].split()]
    references = [path for path in (_one(folder, files, wanted) for wanted in names) if path is not None]
    if not references:
        return None
    if len(references) > 1:
        raise _twice(folder, references)
    respondents = {group: _one(folder, own, file) for group, file in RESPONDENTS.items()}
    return Part(
        name=name,
        culture=layout[name][0]["culture"],
        questionnaires=questionnaires,
        references=references[0],
        respondents={group: path for group, path in respondents.items() if path is not None},
        types=_one(folder, own, TYPES),
        leading=_one(folder, own, LEADING),
    )


def _is_of(folder: Path, path: Path, name: str, others: Sequence[str], *, alone: bool) -> bool:
    steps = path.relative_to(folder).parts
    return name in steps or (alone and not any(other in steps for other in others))


def _one(folder: Path, files: Sequence[Path], name: str) -> Path | None:
    found = [path for path in files if path.name == name]
    if len(found) > 1:
        raise _twice(folder, found)
    return found[0] if found else None


def _twice(folder: Path, found: Sequence[Path]) -> SurveyError:
    got = told(str(path.relative_to(folder)) for path in found)
    return SurveyError(f"{folder}: expected one file, got {got}; name the folder that has one")
