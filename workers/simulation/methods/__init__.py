"""The ways of having a question answered. A new one is a file here, and its name in ``METHODS``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from defsurvey.storage.runs.run import Condition, Participant, Protocol
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.simulation.methods.cao2023 import Cao2023
from defsurvey.workers.simulation.methods.ccsv import CcsvList, CcsvSingle
from defsurvey.workers.simulation.methods.def_ import Def
from defsurvey.workers.simulation.methods.first_token import FirstToken
from defsurvey.workers.simulation.methods.method import Method, Questionnaire

#: Name -> method.
METHODS: Mapping[str, Method] = {
    method.name: method for method in (Def(), Cao2023(), CcsvSingle(), CcsvList(), FirstToken())
}


def method_of(condition: Condition) -> Method:
    """The method of a condition."""
    return METHODS[condition.method]


def questionnaire(
    participant: Participant, *, survey: Survey, questions: Sequence[str], protocol: Protocol
) -> Questionnaire:
    """What a participant is asked; ``questions`` are the ids of all questions of the run, in survey order."""
    method = method_of(participant.cell.condition)
    order = method.order(protocol, participant.index, questions)
    return Questionnaire(participant=participant, survey=survey, protocol=protocol, method=method, order=order)
