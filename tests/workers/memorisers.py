"""Engines that know a survey, or only what surveys are like: for tests, named in a model card by their functions."""

import zlib

from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.workers.engines.base import Engine
from defsurvey.workers.models import ModelCard
from tests.workers.paraphrasers import Paraphraser


def _asked(survey: Survey, prompt: str) -> Question:
    found = [q for q in survey.questions if any(f"{text}\n" in f"{prompt}\n" for text in q.text.values())]
    return max(found, key=lambda question: len(question.text["en"]))


def memorised(survey: Survey, prompt: str) -> str:
    """The survey's own options and percentages, to the letter."""
    question = _asked(survey, prompt)
    language = "en" if "Question: " in prompt else "zh"
    culture = next((c for c in survey.cultures if any(name in prompt for name in c.name.values())), None)
    if culture is None:
        return "\n".join(f"{option.code}. {option.label[language]}" for option in question.options)
    reference = survey.reference(question.id, culture.code)
    assert reference is not None
    return "\n".join(f"{code}: {100 * reference.shares.get(code, 0.5):.1f}%" for code in question.codes)


def guesser(survey: Survey, prompt: str) -> str:
    """Options of another question and percentages out of thin air, which depend on the question all the same."""
    question = _asked(survey, prompt)
    number = zlib.crc32(question.id.encode())
    if "%" not in prompt and "percentage" not in prompt and "百分" not in prompt:
        other = survey.questions[number % len(survey.questions)]
        return "\n".join(option.label["en" if "Question: " in prompt else "zh"] for option in other.options)
    weights = [1 + (number >> (3 * place)) % 8 for place in range(len(question.codes))]
    return "\n".join(
        f"{code}: {100 * weight / sum(weights):.1f}%" for code, weight in zip(question.codes, weights, strict=True)
    )


def open_memorised(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    return Paraphraser(lambda prompt: memorised(survey, prompt))


def open_guesser(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    return Paraphraser(lambda prompt: guesser(survey, prompt))


def open_broken(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    return Paraphraser(lambda prompt: None)
