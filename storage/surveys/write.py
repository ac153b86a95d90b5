"""A survey folder written: from a ``Survey`` to the files that ``storage.surveys.folder`` reads."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defsurvey.storage.surveys.as_json import survey_to_json, written
from defsurvey.storage.surveys.folder import EXCLUDED_FILE, FILES, OPTIONAL_FILES, read_survey
from defsurvey.storage.surveys.problem import InvalidSurvey, SurveyError, UnknownName, nearest, one_of
from defsurvey.storage.surveys.questions import PARAPHRASES_FILE, Tried, paraphrases_text
from defsurvey.storage.surveys.survey import Option, Question, QuestionType, Survey
from defsurvey.storage.surveys.tables import decimal, percent, table
from defsurvey.storage.surveys.yaml_models import dump_yaml
from defsurvey.storage.text import control


def write_survey(survey: Survey, folder: Path, *, beside: Mapping[str, str] | None = None) -> Survey:
    """Write a survey as a folder, all of it or nothing, and read it back: its shares are rounded then.

    The files are written into a hidden folder beside ``folder``, checked there by ``read_survey``, and only then get
    its name. Files of ``beside``, name -> text, are put into the folder as well, and are no part of the survey.

    Raises:
        InvalidSurvey: the survey is not well formed; nothing is left behind.
        SurveyError: the folder is there already, or its parent is not; or questions were excluded from the
            survey, and so are no part of it (see ``copy_survey``).
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
    gone = [name for name in survey.excluded if name not in {question.id for question in survey.questions}]
    if gone:
        got = f"got none of {one_of(gone)}; copy its folder instead"
        raise SurveyError(f"survey {survey.id}: expected its excluded questions, {got}")
    texts = dict.fromkeys(reference.source for reference in survey.references if reference.source)
    sources = {text: f"source-{number}" for number, text in enumerate(texts, start=1)}
    body = survey_to_json(survey)
    head = {name: body[name] for name in ("id", "title", "version", "citation", "terms", "languages")}
    head |= {"dimensions": dict(survey.dimensions)} if survey.dimensions else {}
    head["cultures"] = {culture.pop("code"): _culture(culture) for culture in body["cultures"]}
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


def _culture(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in ("name", "language", "in_sentence", "spoken") if body.get(name)}


def _question(question: Question) -> dict[str, Any]:
    body = written(question)
    most, options, value = body.pop("max_choices"), body.pop("options"), body.pop("value", None)
    kind = {"type": body.pop("type")} | ({"max_choices": most} if question.type is QuestionType.MULTIPLE else {})
    compact = _scale(question.options) if question.type is QuestionType.SCALE else None
    return {"id": body.pop("id"), **kind, **body, "options": compact or options} | ({"value": value} if value else {})


def _scale(options: Sequence[Option]) -> dict[str, Any] | None:
    """The compact form of a scale, where its options have it: points in a row, the inner ones labelled by number."""
    points = [option for option in options if not option.residual]
    inner = points[1:-1]
    if [option.code for option in points] != list(range(points[0].code, points[0].code + len(points))):
        return None
    if options[: len(points)] != tuple(points) or any(set(o.label.values()) != {str(o.code)} for o in inner):
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
            "|".join(f"{code}:{percent(share)}" for code, share in reference.shares.items()),
        )
        for reference in survey.references
    ]
    return table(columns, rows)


def _regions(survey: Survey) -> str:
    places = [(culture.code, region) for culture in survey.cultures for region in culture.regions]
    some = not all(region.uniform for _, region in places)
    names = [f"name_{language}" for language in survey.languages]
    rows = [
        (
            culture,
            region.code,
            *(region.name[language] for language in survey.languages),
            percent(region.share),
            *(["yes" if region.uniform else "no"] if some else []),
        )
        for culture, region in places
    ]
    return table(("culture", "code", *names, "share", *(["uniform"] if some else [])), rows)


def exclude_questions(folder: Path, reasons: Mapping[str, str], *, restore: Sequence[str] = ()) -> Survey:
    """Leave questions of a survey folder out, or take them in again.

    They stay in the folder's files, and their reasons in ``excluded.csv``: only what is read from the folder
    is without them. ``reasons`` tells of questions why they are excluded; ``restore`` are some that no longer are.

    Raises:
        SurveyError: the folder is not sound, there is no such question (UnknownName), a reason is empty or has a
            control character, or no question would be left.
    """
    survey = read_survey(folder)
    known = [*(question.id for question in survey.questions), *survey.excluded]
    for name, reason in reasons.items():
        if name not in known:
            raise UnknownName(f"survey {survey.id}: there is no question {name}{nearest(name, known)}")
        if not reason.strip():
            raise SurveyError(f"survey {survey.id}, question {name}: expected a reason to exclude it, got none")
        if sign := control(reason):
            expected = f"expected a reason without control characters, got one with {sign}"
            raise SurveyError(f"survey {survey.id}, question {name}: {expected}")
    for name in restore:
        if name not in survey.excluded:
            raise UnknownName(f"survey {survey.id}: question {name} is not excluded{nearest(name, survey.excluded)}")
    excluded = {**survey.excluded, **{name: " ".join(reason.split()) for name, reason in reasons.items()}}
    kept = {name: reason for name, reason in excluded.items() if name not in restore}
    if len(kept) == len(known):
        raise SurveyError(f"survey {survey.id}: expected a question to be left, got all {len(known)} excluded")
    if kept != survey.excluded:
        draft = folder / f".{EXCLUDED_FILE}.{secrets.token_hex(4)}"
        draft.write_text(table(("question", "reason"), kept.items()), encoding="utf-8", newline="\n")
        draft.replace(folder / EXCLUDED_FILE)
    return read_survey(folder)
