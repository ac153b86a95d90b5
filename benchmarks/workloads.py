"""What the engine is measured with: requests of fixed size, and interviews as a study conducts them.

Everything is drawn from seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from defsurvey.storage.runs.run import Cell, Condition, MemoryOrder, Participant, Protocol
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine
from defsurvey.workers.engines.scripted import ScriptedEngine
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.models import find_card, read_cards
from defsurvey.workers.simulation.draws import draw_axes
from defsurvey.workers.simulation.interview import interview
from defsurvey.workers.simulation.methods import questionnaire

CONDITION = Condition(name="def")
#: The longest reply in an interview; the demo study has the same.
REPLY = 64


class Beams(StrEnum):
    """How the requests of a workload choose tokens; where some are sampled it is every other five of them."""

    MIXED = "mixed"  #: 1, 2, 3, 4, 5 beams in turn, some sampled
    NONE = "none"  #: one each, some sampled
    GREEDY = "greedy"  #: 1, 2, 3, 4, 5 in turn, none sampled


def fixed(tokenizer: Any, *, requests: int, new_tokens: int, beams: Beams) -> list[ResolvedRequest]:
    """Requests that never end of their own accord: prompts of 400 to 560 tokens of questionnaire text."""
    survey = find_survey("wvs7")
    text = "\n".join(
        "\n".join([question.text["en"], *(f"{option.code}: {option.label['en']}" for option in question.options)])
        for question in survey.questions
    )
    tokens = tokenizer(text)["input_ids"]
    rng = np.random.default_rng(20250314)
    prompts = []
    for _ in range(requests):
        first = int(rng.integers(len(tokens) - 560))
        prompts.append(tokens[first : first + int(rng.integers(400, 561))])
    return _chosen(prompts, new_tokens, beams)


def kind(request: ResolvedRequest) -> tuple[int, bool, int]:
    """What decides how long a request takes: beams, whether it is sampled, its prompt in steps of 128 tokens."""
    return request.num_beams, request.sampling is not None, len(request.prompt) // 128


def stratified(requests: Sequence[ResolvedRequest], one_in: int) -> list[tuple[ResolvedRequest, float]]:
    """About one in ``one_in`` of every kind, at least one of each, and how many requests each of them stands for."""
    kinds = defaultdict(list)
    for request in sorted(requests, key=lambda one: len(one.prompt)):
        kinds[kind(request)].append(request)
    part = []
    for members in kinds.values():
        count = max(1, round(len(members) / one_in))
        middles = [(2 * number + 1) * len(members) // (2 * count) for number in range(count)]
        part += [(members[middle], len(members) / count) for middle in middles]
    return part


def as_json(request: ResolvedRequest) -> dict[str, Any]:
    """A request for another process; ``from_json`` reads it."""
    return {name: value for name, value in asdict(request).items() if name != "enough"}


def from_json(fields: dict[str, Any]) -> ResolvedRequest:
    """The request of which ``as_json`` gave these."""
    sampling = fields["sampling"] and Sampling(**fields["sampling"])
    lists = {name: tuple(fields[name]) for name in ("prompt", "ends")}
    return ResolvedRequest(**{**fields, **lists, "sampling": sampling})


def random_prompts(vocabulary: int, *, requests: int, prompt: int, new_tokens: int) -> list[ResolvedRequest]:
    """Requests of random tokens that never end, as ``fixed`` has; prompts are up to a ninth longer or shorter."""
    rng = np.random.default_rng(20250314)
    lowest, highest = prompt - prompt // 9, prompt + prompt // 9
    prompts = [rng.integers(vocabulary, size=rng.integers(lowest, highest + 1)).tolist() for _ in range(requests)]
    return _chosen(prompts, new_tokens, Beams.MIXED)


def _chosen(prompts: Sequence[Sequence[int]], new_tokens: int, beams: Beams) -> list[ResolvedRequest]:
    return [
        ResolvedRequest(
            prompt=tuple(prompt),
            num_beams=1 if beams is Beams.NONE else 1 + number % 5,
            sampling=Sampling() if number // 5 % 2 and beams is not Beams.GREEDY else None,
            max_new_tokens=new_tokens,
            seed=number,
        )
        for number, prompt in enumerate(prompts)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interviews:
    """Participants who are asked eight questions each, one after the other."""

    participants: Sequence[Participant]
    recall: Sequence[dict[int, str]]
    questions: tuple[str, ...]
    protocol: Protocol
    survey: Survey

    def conduct(self, engine: Engine) -> None:
        """Ask everyone at once; each participant is a thread, as in a worker."""
        with ThreadPoolExecutor(len(self.participants)) as pool:
            under_way = [
                pool.submit(self._ask, *pair, engine) for pair in zip(self.participants, self.recall, strict=True)
            ]
            for each in under_way:
                each.result()

    def _ask(self, participant: Participant, recall: dict[int, str], engine: Engine) -> None:
        for _ in interview(
            questionnaire(participant, survey=self.survey, questions=self.questions, protocol=self.protocol),
            engine=engine,
            recall=recall,
        ):
            pass


def interviews(*, participants: int, first: int, order: MemoryOrder) -> Interviews:
    """Interviews of eight questions from the ``first`` on (0: from an empty memory).

    What was answered before is made up by a respondent that draws options at random.
    """
    survey = find_survey("wvs7")
    questions = tuple(question.id for question in survey.questions)[: first + 8]
    protocol = Protocol(seed=20250314, max_new_tokens=REPLY, memory_order=order)
    people, memories = [], []
    for index in range(participants):
        person, recall = _restored(survey, questions, protocol, index, first)
        people.append(person)
        memories.append(recall)
    return Interviews(participants=people, recall=memories, questions=questions, protocol=protocol, survey=survey)


def _restored(
    survey: Survey, questions: tuple[str, ...], protocol: Protocol, index: int, first: int
) -> tuple[Participant, dict[int, str]]:
    """A participant in front of question ``first``, and what it remembers."""
    draws = draw_axes(protocol, CONDITION, survey.culture("us"), index)
    cell = Cell(id=1, model="any", culture="us", condition=CONDITION, language="en", participants=index + 1)
    person = Participant(id=index, index=index, run="benchmark", cell=cell, draws=draws)
    recall: dict[int, str] = {}
    memory: tuple[int, ...] = ()
    if first:
        respondent = ScriptedEngine(find_card("uniform", read_cards()), survey)
        steps = interview(
            questionnaire(person, survey=survey, questions=questions[:first], protocol=protocol),
            engine=respondent,
            recall={},
        )
        for step in steps:
            memory = step.memory
            if step.answers[0].remembered is not None:
                recall[step.answers[0].item] = step.answers[0].remembered
    return replace(person, next_item=first, memory=memory), {item: recall[item] for item in memory}
