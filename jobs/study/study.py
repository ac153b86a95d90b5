"""A study: the experimental design that a user writes, validated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from defsurvey.jobs.study import keys as keys
from defsurvey.jobs.study.file import StudyError, read_text
from defsurvey.jobs.study.keys import BUILT_IN_CONDITIONS, NATIVE, TOGGLES, languages_of
from defsurvey.jobs.study.questions import choose_questions
from defsurvey.jobs.study.requirements import check_conditions
from defsurvey.storage.runs.judgement import Judge
from defsurvey.storage.runs.run import Condition, Method, Protocol, Reply
from defsurvey.storage.surveys.problem import Fault
from defsurvey.storage.surveys.survey import Survey
from defsurvey.storage.surveys.yaml_text import parse_yaml
from defsurvey.workers.models import ModelCard

__all__ = ["BUILT_IN_CONDITIONS", "NATIVE", "PlannedCell", "Study", "StudyError", "parse_study", "read_study"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell as it will be enqueued: one model x culture x condition x language."""

    model: str
    culture: str
    condition: Condition
    language: str  #: language code, never ``native``
    participants: int
    answers: int  #: planned
    completions: int  #: that these take


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to ask, of whom, under which conditions."""

    name: str
    survey: Survey
    questions: tuple[str, ...]  #: question ids in survey order
    cultures: tuple[str, ...]
    languages: tuple[str, ...]  #: as asked for: ``native`` or language codes
    models: tuple[str, ...]
    conditions: tuple[Condition, ...]
    participants: int  #: in each cell, at least 1
    protocol: Protocol
    text: str  #: the study file's text
    judge: Judge | None = None
    budget: float | None = None  #: US dollars that models and judge may cost
    left_out: tuple[str, ...] = ()  #: questions of core, all or a sample that are not known for every culture

    def __post_init__(self) -> None:
        keys.check_name(self.name)
        keys.check_participants(self.participants)

    def languages_of(self, culture: str) -> tuple[str, ...]:
        """Language codes in which a culture's participants are asked, each once."""
        return languages_of(self.survey, culture, self.languages)

    def cells(self) -> tuple[PlannedCell, ...]:
        """The cells that make up the study: by model, then culture, condition and language."""
        return tuple(
            self._cell(model, culture, condition, language)
            for model in self.models
            for culture in self.cultures
            for condition in self.conditions
            for language in self.languages_of(culture)
        )

    def planned_answers(self) -> int:
        """How many answers a complete run holds."""
        return sum(cell.answers for cell in self.cells())

    def _cell(self, model: str, culture: str, condition: Condition, language: str) -> PlannedCell:
        participants = condition.participants(self.participants)
        asked = participants * len(self.questions)
        return PlannedCell(
            model=model,
            culture=culture,
            condition=condition,
            language=language,
            participants=participants,
            answers=asked * condition.method.slots,
            completions=asked * condition.method.completions,
        )

    def pilot(self, participants: int) -> Study:
        """This study with its first participants only; never with more than it has.

        Raises:
            StudyError: ``participants`` is less than 1.
        """
        return replace(self, participants=min(participants, self.participants))

    def design(self) -> dict[str, object]:
        """All that two runs must share to be one design, ready for JSON.

        A run can be extended by models and participants, so these are not part of it, and
        neither is the order in which cultures, languages and conditions are written.
        """
        protocol = self.protocol
        return {
            "survey": {"id": self.survey.id, "fingerprint": self.survey.fingerprint},
            "questions": list(self.questions),
            "languages": {culture: sorted(self.languages_of(culture)) for culture in sorted(self.cultures)},
            "conditions": {
                condition.name: {toggle: getattr(condition, toggle) for toggle in TOGGLES}
                | ({"paraphrase": True} if condition.paraphrase else {})
                | ({} if condition.method is Method.DEF else {"method": condition.method.value})
                for condition in sorted(self.conditions, key=lambda condition: condition.name)
            },
            "protocol": {
                "seed": protocol.seed,
                "preset": protocol.preset.value,
                "draws": protocol.draws.value,
                "question_order": protocol.question_order.value,
                "memory_order": protocol.memory_order.value,
                "temperature": float(protocol.temperature),
                "top_p": float(protocol.top_p),
                "max_new_tokens": protocol.max_new_tokens,
            }
            | ({} if protocol.reply is Reply.FULL else {"reply": protocol.reply.value})
            | ({"top_k": protocol.top_k} if protocol.top_k else {})
            | ({} if protocol.do_sample is None else {"do_sample": protocol.do_sample}),
        }

    def fingerprint(self) -> str:
        """SHA-256 of the design, in hexadecimal: equal for two studies exactly when their designs are."""
        body = json.dumps(self.design(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()


def read_study(path: Path, *, cards: Mapping[str, ModelCard], name: str | None = None) -> Study:
    """Read and validate a study file.

    Args:
        path: the study file; a survey given as a folder is looked up beside it.
        cards: model name -> card: the models that can be named.
        name: a run name in place of the file's.

    Raises:
        StudyError: the first thing that is wrong, with file, line, key, what was expected and what was found.
    """
    return parse_study(read_text(path), path=path, cards=cards, name=name)


def parse_study(
    text: str,
    *,
    path: Path,
    cards: Mapping[str, ModelCard],
    survey: Survey | None = None,
    name: str | None = None,
) -> Study:
    """Validate the text of a study file; see ``read_study``.

    Args:
        text: the file's text, such as a run keeps.
        path: named in errors.
        cards: model name -> card.
        survey: the survey as a run keeps it, in place of the one that the text names.
        name: a run name in place of the text's.
    """
    try:
        study = _study(text, path, cards, survey, named=name is not None)
    except Fault as fault:
        raise StudyError(str(fault)) from None
    return study if name is None else replace(study, name=name)


def _study(text: str, path: Path, cards: Mapping[str, ModelCard], survey: Survey | None, *, named: bool) -> Study:
    """What the text says; ``named``: the run has a name already, so that the text needs none."""
    free = ["name"] if named else []
    required = [key for key in keys.REQUIRED_KEYS if key not in free]
    entries = parse_yaml(str(path), text).fields(required, (*free, *keys.OPTIONAL_KEYS))
    name = keys.name(entries["name"]) if "name" in entries else "unnamed"
    survey = survey or keys.survey(entries["survey"], beside=path.parent)
    cultures = keys.cultures(entries["cultures"], survey)
    languages = keys.languages(entries.get("language"), survey, cultures)
    protocol = keys.protocol(entries)
    chosen = choose_questions(
        entries["questions"], survey=survey, cultures=cultures, languages=languages, seed=protocol.seed
    )
    conditions = keys.conditions(entries["conditions"])
    used = [language for culture in cultures for language in languages_of(survey, culture, languages)]
    keys.check_paraphrases(entries["conditions"], conditions, survey, chosen.asked, used)
    models, judge = keys.models(entries["models"], cards), keys.judge(entries.get("judge"), cards)
    check_conditions(conditions, models, cards, protocol)
    paid = models if judge is None else (*models, judge.model)
    return Study(
        name=name,
        survey=survey,
        questions=chosen.asked,
        left_out=chosen.left_out,
        cultures=cultures,
        languages=languages,
        models=models,
        judge=judge,
        budget=keys.budget(entries.get("budget"), paid, cards),
        conditions=conditions,
        participants=keys.participants(entries.get("participants")),
        protocol=protocol,
        text=text,
    )
