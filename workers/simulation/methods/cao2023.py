"""The average person of a culture is asked for, in two wordings in turn (Cao et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

from defsurvey.storage.surveys.survey import Culture, Question
from defsurvey.workers.simulation.methods.method import Method
from defsurvey.workers.simulation.prompts import choosing_text, country_name, fill, request_text, words


class Cao2023(Method):
    """The model infers what the average person of the culture answers."""

    name = "cao2023"

    def text(
        self,
        question: Question,
        shown: Sequence[int],
        *,
        culture: Culture,
        region: str | None,  # noqa: ARG002 -- the country alone
        language: str,
        index: int,
    ) -> str:
        """The prompt; participants with an odd index are asked in the second wording."""
        table = words(language)
        role = table.average_2 if index % 2 else table.average_1
        lines = (
            fill(role, COUNTRY=country_name(culture, language)),
            choosing_text(question, shown, language),
            table.format,
            request_text(question, shown, language),
        )
        return "\n".join(lines)
