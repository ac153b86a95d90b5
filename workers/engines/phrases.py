"""What scripted respondents say, in the prompt's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from defsurvey.workers.engines.base import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phrases:
    """One language's wording."""

    answer: str  #: before the choices
    after_code: str  #: between an option's code and its label
    between: str  #: between two choices
    explanation: str  #: before the explanation
    explanations: Sequence[str]
    refusals: Sequence[str]
    nonsense: Sequence[str]
    person: str  #: before a line of a list, ``%d`` its number
    critique: str


_ENGLISH = _Phrases(
    answer="Answer: ",
    after_code=": ",
    between="; ",
    explanation="Explanation: ",
    explanations=(
        "This is how I see it.",
        "That is what life has taught me.",
        "Most people around me feel the same way.",
        "It is what my family has always believed.",
    ),
    refusals=(
        "As an AI language model, I do not have personal opinions, so I cannot answer this question.",
        "I'm sorry, but I cannot take the role of a citizen or share personal views.",
    ),
    nonsense=(
        "The weather the the the the the",
        "Thank you for this interesting request. Let me know how I can help you further.",
    ),
    person="Person %d: ",
    critique="It should be closer to what people here have lived through.",
)
_CHINESE = _Phrases(
    answer="答案：",
    after_code="：",
    between="；",
    explanation="解释：",
    explanations=(
        "我是这样看的。",
        "这是生活教给我的道理。",
        "我身边的人大多也这么想。",
        "我们家一直这样认为。",
    ),
    refusals=(
        "作为一个人工智能语言模型，我没有个人观点，无法回答这个问题。",
        "对不起，我不能扮演公民，也不能表达个人看法。",
    ),
    nonsense=("天气天气天气天气天气", "感谢您提出这个有趣的请求，请告诉我还能怎样帮助您。"),
    person="第%d人：",
    critique="应当更贴近这里的人们的生活经历。",
)
#: A language that is not here is answered with the English words around the labels of that language.
_LANGUAGES: Mapping[str, _Phrases] = {"en": _ENGLISH, "zh": _CHINESE}

#: How many explanations there are to choose from in each language.
EXPLANATIONS = len(_ENGLISH.explanations)


def answer(asked: Asked, codes: Sequence[int], explanation: int) -> str:
    """A reply in the canonical format, e.g. ``Answer: 2: Rather important`` and an explanation on the next line.

    Args:
        asked: The question and its language.
        codes: Option codes chosen, at least one.
        explanation: Which explanation is given, in [0, ``EXPLANATIONS``).
    """
    words = _LANGUAGES.get(asked.language, _ENGLISH)
    chosen = words.between.join(_choice(asked, code, words) for code in codes)
    return f"{words.answer}{chosen}\n{words.explanation}{words.explanations[explanation]}"


def listing(asked: Asked, answers: Sequence[Sequence[int]]) -> str:
    """A line for each of several people, e.g. ``Person 3: 2: Rather important``."""
    words = _LANGUAGES.get(asked.language, _ENGLISH)
    lines = (words.between.join(_choice(asked, code, words) for code in codes) for codes in answers)
    return "\n".join(words.person % number + line for number, line in enumerate(lines, start=1))


def critique(language: str) -> str:
    """What could be better about a draft."""
    return _LANGUAGES.get(language, _ENGLISH).critique


def vote(language: str, draft: int) -> str:
    """The number of the draft that is best."""
    return f"{_LANGUAGES.get(language, _ENGLISH).answer}{draft}"


def refusal(language: str, seed: int) -> str:
    """A refusal to take the role."""
    refusals = _LANGUAGES.get(language, _ENGLISH).refusals
    return refusals[seed % len(refusals)]


def garble(asked: Asked, seed: int) -> str:
    """A reply from which no answer can be read: the seed picks one of several kinds.

    The kinds: nothing; blanks; an announced answer that does not come; a number that no
    option has; marks without words; words without sense.
    """
    words = _LANGUAGES.get(asked.language, _ENGLISH)
    beyond = max(asked.question.codes) + 90
    kinds = ("", " \n\n ", words.answer.strip(), f"{words.answer}{beyond}", "### ??? ***", *words.nonsense)
    return kinds[seed % len(kinds)]


def _choice(asked: Asked, code: int, words: _Phrases) -> str:
    label = asked.question.option(code).label
    text = label.get(asked.language, "")
    return str(code) if text in ("", str(code)) else f"{code}{words.after_code}{text}"
