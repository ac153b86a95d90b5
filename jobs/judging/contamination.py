"""Asks the models of a run what they know of its survey, and keeps each batch.

What is asked is in ``workers.probing``; what follows from it is in the run's report.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.rephrasing import progress_bar
from defsurvey.jobs.system import wait_shortly
from defsurvey.storage.database import Database
from defsurvey.storage.runs import budget, store
from defsurvey.storage.runs.probes import add_probes, read_probes
from defsurvey.storage.runs.store import record_served
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.machine import versions
from defsurvey.workers.engines.opening import check_card, describe_engine, open_engine
from defsurvey.workers.models import ModelCard, find_card, read_cards
from defsurvey.workers.probing import complete, planned

if TYPE_CHECKING:
    from rich.console import Console

    from defsurvey.storage.runs.probes import Probe
    from defsurvey.storage.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What became of the probes of a run."""

    wanted: int
    there: int  #: of these, how many the run has now
    asked: int  #: how many of them were asked now
    failures: tuple[str, ...]  #: the engine gave up, or there was no money left for it, one sentence each


def check_contamination(
    settings: Settings, database: Database, run_id: str, *, models: Sequence[str], device: str, console: Console
) -> Checked:
    """Ask what has not been asked yet, model after model; it costs something, which no budget counts.

    Without names all models of the run are asked but scripted respondents. Raises EngineUnavailable and OtherEngine.
    """
    wait_shortly()
    run = store.load_run(database, run_id)
    survey = store.load_survey(database, run.survey)
    there = {probe.key for probe in read_probes(database, run_id)}
    wanted: list[Probe] = []
    failures: list[str] = []
    asked = 0
    for card in _cards(settings, run, models):
        cells = [(cell.culture, cell.language) for cell in run.cells if cell.model == card.name]
        probes = planned(survey, card.name, cells, run.questions)
        wanted += probes
        todo = [probe for probe in probes if probe.key not in there]
        if todo and card.costs and budget.is_spent(database, run_id):
            failures.append(f"model {card.name}: the budget of run {run_id} is spent")
        elif todo:
            with console.status(f"loading {card.name}"):
                engine = open_engine(card, survey=survey, device=device, cache=settings.cache)
            with closing(engine), progress_bar(console, "failed") as bar:
                served = {**describe_engine(card.name, engine), **card.facts}
                record_served(database, run_id, card.name, served, versions())
                task, before = bar.add_task(card.name, total=len(todo), failed=0), len(failures)
                for batch in complete(todo, survey, engine):
                    add_probes(database, run_id, batch.probes)
                    asked += len(batch.probes)
                    failures += batch.failures
                    bar.update(task, advance=len(batch.probes), failed=len(failures) - before)
    there = {probe.key for probe in read_probes(database, run_id)}
    found = sum(probe.key in there for probe in wanted)
    return Checked(wanted=len(wanted), there=found, asked=asked, failures=tuple(failures))


def _cards(settings: Settings, run: Run, models: Sequence[str]) -> list[ModelCard]:
    """The cards of the models to ask, which are not scripted."""
    cards, of_run = read_cards(settings.models), list(dict.fromkeys(cell.model for cell in run.cells))
    for model in models:
        if model not in of_run:
            raise EngineUnavailable(f"model {model}: expected one of run {run.id} ({', '.join(of_run)})")
    found = [find_card(model, cards) for model in models or of_run]
    asked = [card for card in found if card.capabilities.reads_prompts]
    scripted = [card.name for card in found if not card.capabilities.reads_prompts]
    if scripted and (models or not asked):
        expected = "expected a model that can know a survey, got a scripted respondent"
        raise EngineUnavailable(f"model {scripted[0]}: {expected}")
    for card in asked:
        check_card(card, cache=settings.cache)
    return asked
