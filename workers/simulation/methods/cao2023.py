"""The average person of a culture is asked for, in two wordings in turn (Cao et al. 2023)."""

from __future__ import annotations

from defsurvey.workers.simulation.methods.method import Method, PromptParts
from defsurvey.workers.simulation.prompts import choosing_text, country_name, fill, request_text, words


class Cao2023(Method):
    """The model infers what the average person of the culture answers."""

    name = "cao2023"

    def text(self, parts: PromptParts) -> str:
        """The prompt; participants with an odd index are asked in the second wording."""
        table = words(parts.language)
        lines = (
            fill(
                table.average_2 if parts.index % 2 else table.average_1,
                COUNTRY=country_name(parts.culture, parts.language),
            ),
            choosing_text(parts.question, parts.shown, parts.language),
            table.format,
            request_text(parts.question, parts.shown, parts.language),
        )
        return "\n".join(lines)
