"""A survey folder written: from a ``Survey`` to the files that ``storage.surveys.folder`` reads."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defsurvey.storage.files import write_whole
from defsurvey.storage.surveys.as_json import survey_to_json, written
from defsurvey.storage.surveys.folder import EXCLUDED_FILE, FILES, OPTIONAL_FILES, read_survey
from defsurvey.storage.surveys.problem import InvalidSurvey, SurveyError, UnknownName, nearest, one_of
from defsurvey.storage.surveys.questions import PARAPHRASES_FILE, Tried, paraphrases_text
from defsurvey.storage.surveys.survey import Option, Question, QuestionType, Survey
from defsurvey.storage.surveys.tables import decimal, table
from defsurvey.storage.surveys.yaml_models import dump_yaml
from defsurvey.storage.text import control


def write_survey(survey: Survey, folder: Path, *, beside: Mapping[str, str] | None = None) -> Survey:
    """Write a survey as a folder, all of it or nothing, and read it back: its shares are rounded then.

    The files are checked in a hidden folder before that gets its name. Files of ``beside``, name -> text, are put into
    it as well, and are no part of the survey. Raises SurveyError, and leaves nothing behind then.
    """
    texts = {**survey_files(survey), **(beside or {})}
    return _made(folder, {file: text.encode() for file, text in texts.items()})


def copy_survey(source: Path, folder: Path) -> Survey:
    """Copy a sound survey folder as ``write_survey`` writes one: its files as they are, and no others in it."""
    read_survey(source)
    files = [file for file in (*FILES, *OPTIONAL_FILES) if (source / file).is_file()]
    return _made(folder, {file: (source / file).read_bytes() for file in files})


def _made(folder: Path, files: Mapping[str, bytes]) -> Survey:
    if not folder.name or not folder.absolute().parent.is_dir():
        raise SurveyError(f"survey folder {folder}: expected a folder to make it in, got none at {folder.parent}")
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise SurveyError(f"survey folder {folder}: expected a place where nothing is yet, got something; it is kept")
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        for file, content in files.items():
            (draft / file).write_bytes(content)
        survey = read_survey(draft)
        if folder.is_dir():
            folder.rmdir()  # empty; not every system renames onto an empty folder
        draft.rename(folder)
    except InvalidSurvey as error:
        raise InvalidSurvey(folder, error.problems) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return survey


def survey_files(survey: Survey) -> dict[str, str]:
    """File name -> text, for every file that the survey needs; raises SurveyError where excluded questions are gone."""
    if gone := [name for name in survey.excluded if name not in {question.id for question in survey.questions}]:
        got = f"got none of {one_of(gone)}; copy its folder instead"
        raise SurveyError(f"survey {survey.id}: expected its excluded questions, {got}")
    texts = dict.fromkeys(reference.source for reference in survey.references if reference.source)
    sources = {text: f"source-{number}" for number, text in enumerate(texts, start=1)}
    body = survey_to_json(survey)
    head = {name: body[name] for name in ("id", "title", "version", "citation", "terms", "languages")}
    head |= {"dimensions": dict(survey.dimensions)} if survey.dimensions else {}
    told = ("name", "language", "in_sentence", "spoken")
    head["cultures"] = {one["code"]: {key: one[key] for key in told if one.get(key)} for one in body["cultures"]}
    head |= {"sources": {key: text for text, key in sources.items()}} if sources else {}
    files = {
        "survey.yaml": dump_yaml(head),
        "questions.yaml": dump_yaml({"questions": [_question(question) for question in survey.questions]}),
        "references.csv": _references(survey, sources),
    }
    if any(culture.regions for culture in survey.cultures):
        files["regions.csv"] = _regions(survey)
    if survey.excluded:
        files[EXCLUDED_FILE] = table(("question", "reason"), survey.excluded.items())
    if survey.paraphrases:
        files[PARAPHRASES_FILE] = paraphrases_text([Tried(paraphrase=one) for one in survey.paraphrases])
    return files


def _question(question: Question) -> dict[str, Any]:
    body = written(question)
    most, options, value = body.pop("max_choices"), body.pop("options"), body.pop("value", None)
    kind = {"type": body.pop("type")} | ({"max_choices": most} if question.type is QuestionType.MULTIPLE else {})
    compact = _scale(question.options) if question.type is QuestionType.SCALE else None
    return {"id": body.pop("id"), **kind, **body, "options": compact or options} | ({"value": value} if value else {})


def _scale(options: Sequence[Option]) -> dict[str, Any] | None:
    """The compact form of a scale, where its options have it: points in a row, the inner ones labelled by number."""
    points = [option for option in options if not option.residual]
    in_a_row = [option.code for option in points] == list(range(points[0].code, points[0].code + len(points)))
    numbered = all(set(o.label.values()) == {str(o.code)} for o in points[1:-1])
    if not in_a_row or not numbered or options[: len(points)] != tuple(points):
        return None
    ends = {"from": points[0].code, "to": points[-1].code, "low": dict(points[0].label), "high": dict(points[-1].label)}
    residual = [{"code": o.code, "label": dict(o.label)} for o in options if o.residual]
    return ends | ({"residual": residual} if residual else {})


def _references(survey: Survey, sources: Mapping[str, str]) -> str:
    weighted = any(reference.n_eff is not None for reference in survey.references)
    columns = ("question", "culture", "group", "n", *(["n_eff"] if weighted else []), "low_n", "source", "percent")
    rows = [
        (
            reference.question,
            reference.culture,
            reference.group.value,
            reference.n,
            *(["" if reference.n_eff is None else decimal(reference.n_eff)] if weighted else []),
            "yes" if reference.low_n else "",
            sources.get(reference.source, ""),
            "|".join(f"{code}:{decimal(100 * share)}" for code, share in reference.shares.items()),
        )
        for reference in survey.references
    ]
    return table(columns, rows)


def _regions(survey: Survey) -> str:
    places = [(culture.code, region) for culture in survey.cultures for region in culture.regions]
    some = not all(region.uniform for _, region in places)
    columns = ["culture", "code", *(f"name_{language}" for language in survey.languages), "share"]
    rows: list[list[str]] = []
    for culture, region in places:
        names = [region.name[language] for language in survey.languages]
        uniform = ["yes" if region.uniform else "no"] if some else []
        rows.append([culture, region.code, *names, decimal(100 * region.share), *uniform])
    return table([*columns, *(["uniform"] if some else [])], rows)


def exclude_questions(folder: Path, reasons: Mapping[str, str], *, restore: Sequence[str] = ()) -> Survey:
    """Leave questions of a survey folder out, each for its reason, or take some in again (``restore``).

    They stay in the folder's files, and only what is read from it is without them. Raises SurveyError.
    """
    survey = read_survey(folder)
    known = [*(question.id for question in survey.questions), *survey.excluded]
    for name, reason in reasons.items():
        if name not in known:
            raise UnknownName(f"survey {survey.id}: there is no question {name}{nearest(name, known)}")
        sign, place = control(reason), f"survey {survey.id}, question {name}"
        if not reason.strip():
            raise SurveyError(f"{place}: expected a reason to exclude it, got none")
        if sign:
            raise SurveyError(f"{place}: expected a reason without control characters, got one with {sign}")
    for name in restore:
        if name not in survey.excluded:
            raise UnknownName(f"survey {survey.id}: question {name} is not excluded{nearest(name, survey.excluded)}")
    excluded = {**survey.excluded, **reasons}
    kept = {name: " ".join(reason.split()) for name, reason in excluded.items() if name not in restore}
    if len(kept) == len(known):
        raise SurveyError(f"survey {survey.id}: expected a question to be left, got all {len(known)} excluded")
    if kept != survey.excluded:
        text = table(("question", "reason"), kept.items())
        write_whole(folder / EXCLUDED_FILE, lambda file: file.write(text.encode()))
    return read_survey(folder)
