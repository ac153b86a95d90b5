"""What a report is made of, read from SQL and from the model cards.

Knows where each part is kept. Deliberately analyses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from storage.database import Database
from storage.read_results import read_results
from storage.results import Results
from workers.models import ModelCard


def report_input(database: Database, run: str, cards: Mapping[str, ModelCard]) -> Results:
    """A run's results with what the cards say of its models.

    Args:
        database: where the run is.
        run: which run.
        cards: by name; a model without a card has no facts.

    Raises:
        storage.store.UnknownRun: there is no such run.
    """
    results = read_results(database, run)
    models = dict.fromkeys(cell.model for cell in results.run.cells)
    facts = {model: _facts(cards[model]) for model in models if model in cards}
    return replace(results, model_facts={model: said for model, said in facts.items() if said})


def _facts(card: ModelCard) -> dict[str, str]:
    return {name: value for name, value in (("series", card.series), ("stage", card.stage)) if value}
