"""What a model made of a question when it was asked what it knows of the survey itself.

A noun: whether a model has seen a survey is asked apart from its interviews.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ProbeKind(StrEnum):
    """What a model was asked to complete from a question's wording."""

    OPTIONS = "options"  #: the options that the question offers
    PERCENTAGES = "percentages"  #: what percentage of people chose each option


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question as a model completed it."""

    model: str
    kind: ProbeKind
    culture: str  #: whose percentages; empty for options
    language: str
    question: str
    prompt: str
    completion: str
    percent: Mapping[int, float] | None = None  #: option code -> percentage said; None: not asked, or not to be read

    @property
    def key(self) -> tuple[str, ProbeKind, str, str, str]:
        """What makes it the same probe of a run."""
        return (self.model, self.kind, self.culture, self.language, self.question)
