"""How the baselines ask: the average person of Cao et al. (2023), and the four steps of CCSV (Lahoti et al. 2023).

The words are in ``prompts.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from defsurvey.storage.surveys.survey import Culture, Question
from defsurvey.workers.engines.base import Message
from defsurvey.workers.simulation.prompts import choosing_text, country_name, fill, prompt_text, request_text, words

_ENTRY = re.compile(r"\W*(?P<word>[^\W\d]+\s?)?(?P<slot>\d{1,3})\s?[^\W\d]?\s?[:：.)、]\s*(?P<answer>\S.*)")
#: Of three digits at most: a model may go on with digits for ever, and Python reads no number of so many.
_DRAFT = re.compile(r"(?:draft|answer|草稿|答案)\W{0,3}(?P<number>\d{1,3})(?!\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\d)\d{1,3}(?!\d)")


def average_wording(participant: int) -> int:
    """Which of the two wordings the participant of that number is asked in: both, in turn."""
    return 1 + participant % 2


def average_text(question: Question, shown: Sequence[int], culture: Culture, language: str, wording: int) -> str:
    """The prompt that asks for the average person of a culture; ``wording`` is 1 or 2."""
    table = words(language)
    role = {1: table.average_1, 2: table.average_2}[wording]
    return "\n".join(
        (
            fill(role, COUNTRY=country_name(culture, language)),
            choosing_text(question, shown, language),
            table.format,
            request_text(question, shown, language),
        )
    )


def draft_text(question: Question, shown: Sequence[int], culture: Culture, language: str, slots: int) -> str:
    """The prompt that asks for the first draft: one answer, or a list of ``slots``."""
    if slots == 1:
        return prompt_text(question, shown, culture, None, language)
    table = words(language)
    entry = fill(table.entry, SLOT="1").strip()
    return "\n".join(
        (
            fill(table.list, COUNTRY=country_name(culture, language), NUM=str(slots), ENTRY=entry),
            choosing_text(question, shown, language),
            request_text(question, shown, language),
        )
    )


def critique_text(culture: Culture, language: str, slots: int) -> str:
    """What is said after the draft, to have it criticised."""
    table = words(language)
    return fill(table.critique if slots == 1 else table.critique_list, COUNTRY=country_name(culture, language))


def rewrite_text(language: str, slots: int) -> str:
    """What is said after the criticism, to have the draft written anew."""
    table = words(language)
    if slots == 1:
        return fill(table.rewrite, FORMAT=table.format)
    return fill(table.rewrite_list, NUM=str(slots))


def vote_text(question: Question, shown: Sequence[int], culture: Culture, language: str, drafts: Sequence[str]) -> str:
    """The prompt that asks which of several drafts is best; they are numbered from 1."""
    table = words(language)
    lines = [
        fill(table.vote, COUNTRY=country_name(culture, language), NUM=str(len(drafts))),
        request_text(question, shown, language),
    ]
    for number, draft in enumerate(drafts, start=1):
        lines += [fill(table.draft, SLOT=str(number)), draft.strip()]
    return "\n".join(lines)


def conversation(*turns: str) -> tuple[Message, ...]:
    """Turns as messages, the user's first."""
    return tuple(Message(role="assistant" if place % 2 else "user", content=turn) for place, turn in enumerate(turns))


def list_entries(text: str, slots: int) -> dict[int, str]:
    """Slot, from 0, -> the answer on that person's line; the first line counts where one has several.

    A line that says whose it is ("Person 1: 4") counts before one that begins with a bare number.

    >>> list_entries("Person 1: 2\\nPerson 3: 4: Not at all important", slots=3)
    {0: '2', 2: '4: Not at all important'}
    """
    entries = [entry for line in text.splitlines() if (entry := _ENTRY.fullmatch(line.strip()))]
    found: dict[int, str] = {}
    for entry in sorted(entries, key=lambda entry: not entry["word"]):
        if 1 <= int(entry["slot"]) <= slots:
            found.setdefault(int(entry["slot"]) - 1, entry["answer"])
    return found


def voted(text: str, drafts: int) -> int:
    """The draft, from 0, that a vote names, by that word or else by a number; the first where it names none.

    >>> voted("Answer: Draft 3", drafts=5), voted("Of the 5, draft 2 is best.", drafts=5), voted("All.", drafts=5)
    (2, 1, 0)
    """
    named = [int(found["number"]) for found in _DRAFT.finditer(text)]
    numbers = [int(found[0]) for found in _NUMBER.finditer(text)]
    return next((number for number in (*named, *numbers) if 1 <= number <= drafts), 1) - 1
