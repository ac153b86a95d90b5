"""What to say of a sound survey: languages that nobody can be asked in, labels that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

from defsurvey.storage.surveys.importers.imported import number_notes, told
from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.workers.simulation.answer_parser import unread_labels
from defsurvey.workers.simulation.prompts import languages


def validation_notes(survey: Survey) -> list[str]:
    """All that is told of a survey when it is checked, one sentence each."""
    return [*survey_notes(survey), *number_notes(survey.questions)]


def survey_notes(survey: Survey) -> list[str]:
    """What the importers, which know neither prompts nor reading, do not tell themselves."""
    return [*_prompt_notes(survey), *_label_notes(survey.questions)]


def _prompt_notes(survey: Survey) -> list[str]:
    without = [language for language in survey.languages if language not in languages()]
    if not without:
        return []
    asked = f"only in {told(languages())}, and a folder cannot add one (docs/importing.md)"
    return [f"there is no prompt in {told(without)}, {asked}: a study that asks in it is refused"]


def _label_notes(questions: Iterable[Question]) -> list[str]:
    unread = [question.id for question in questions if any(unread_labels(question))]
    if not unread:
        return []
    why = "it has no letter, or differs from another in signs alone"
    return [f"a label in {told(unread)} cannot be read ({why}): a reply of that label without its number is unparsable"]
