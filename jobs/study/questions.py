"""Which questions a study asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from defsurvey.jobs.study.file import whole_number
from defsurvey.jobs.study.keys import each, languages_of
from defsurvey.storage.surveys.problem import Fault, nearest, one_of
from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.storage.surveys.yaml_text import Entry

QUESTIONS_RULE = "core, all, a list of question ids, or {sample: N}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Questions of a study."""

    asked: tuple[str, ...]  #: ids in survey order, at least one
    left_out: tuple[str, ...]  #: ids that were meant but have no reference distribution in every culture


def choose_questions(
    written: Entry, *, survey: Survey, cultures: tuple[str, ...], languages: tuple[str, ...], seed: int
) -> Chosen:
    """The questions that ``questions`` chooses.

    The same questions are asked in every culture. Of core, all and a sample, those without a
    reference distribution in every culture are left out, before a sample is drawn; a question that
    is named must have them.

    Args:
        written: what stands behind the key.
        survey: whose questions they are.
        cultures: codes of the study's cultures.
        languages: as asked for: native or codes.
        seed: the study's seed, from which a sample is drawn.

    Raises:
        Fault: an unknown question, one that is not known for a culture or not worded in a
            language, a sample larger than what there is, or nothing to ask.
    """
    if written.is_list:
        return _named(written, survey, cultures, languages)
    size = None if written.is_text else _sample_size(written)
    meant = list(survey.questions)
    if size is None and _word(written) == "core":
        meant = [question for question in meant if question.core]
        if not meant:
            raise written.fault(f"core questions in survey {survey.id}", "none; ask for all")
    known = _known(written, survey, cultures, meant)
    _check_wording(dict.fromkeys(known, written), survey, cultures, languages)
    asked = known if size is None else _sample(written, known, size, seed)
    return Chosen(asked=tuple(asked), left_out=tuple(q.id for q in meant if q.id not in known))


def _named(written: Entry, survey: Survey, cultures: tuple[str, ...], languages: tuple[str, ...]) -> Chosen:
    for item in written.items():
        name = item.text()
        if name in survey.excluded:
            raise item.fault("a question that is not excluded", f"{name!r}, excluded because: {survey.excluded[name]}")
    places = each(written, [question.id for question in survey.questions])
    for culture in cultures:
        unknown = [name for name in places if survey.reference(name, culture) is None]
        if len(unknown) == len(places):
            raise _unknown_to(written, culture, len(places))
        if unknown:
            raise places[unknown[0]].fault(f"a question with a reference distribution for culture {culture}")
    _check_wording(places, survey, cultures, languages)
    return Chosen(asked=tuple(q.id for q in survey.questions if q.id in places), left_out=())


def _word(written: Entry) -> str:
    word = written.text()
    if word not in ("core", "all"):
        raise written.fault(QUESTIONS_RULE, repr(word) + nearest(word, ("core", "all")))
    return word


def _sample_size(written: Entry) -> int:
    return whole_number(written.fields(("sample",))["sample"], 1)


def _known(written: Entry, survey: Survey, cultures: tuple[str, ...], meant: list[Question]) -> list[str]:
    known = [question.id for question in meant]
    for culture in cultures:
        here = {question.id for question in meant if survey.reference(question.id, culture) is not None}
        if not here:
            raise _unknown_to(written, culture, len(meant))
        known = [name for name in known if name in here]
    if not known:
        raise written.fault(f"questions with a reference distribution for each of {one_of(cultures)}", "none")
    return known


def _unknown_to(written: Entry, culture: str, number: int) -> Fault:
    return written.fault(
        f"questions with reference distributions for culture {culture}", f"none among the {number} chosen"
    )


def _sample(written: Entry, known: list[str], size: int, seed: int) -> list[str]:
    from defsurvey.workers.simulation.participant import (
        substream,
    )  # numpy: a study that draws nothing need not wait for it

    if size > len(known):
        raise written.fault(f"a sample of at most {len(known)}, as many as can be asked", str(size))
    drawn = substream(seed, "question sample").choice(len(known), size=size, replace=False)
    return [known[position] for position in sorted(drawn)]


def _check_wording(
    places: Mapping[str, Entry], survey: Survey, cultures: Iterable[str], languages: tuple[str, ...]
) -> None:
    used = dict.fromkeys(code for culture in cultures for code in languages_of(survey, culture, languages))
    for name, place in places.items():
        question = survey.question(name)
        for language in used:
            if not question.text.get(language):
                raise place.fault(f"questions with a wording in {language}", f"none of {name}")
            for option in question.options:
                if not option.label.get(language):
                    raise place.fault(f"options with a label in {language}", f"none of option {option.code} of {name}")
