"""A prompt that a provider's filter declines: a refusal, and no failure of the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from defsurvey.storage.runs import run
from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.simulation.interview import interview
from tests.workers.api.conftest import Protocol, ask
from tests.workers.api.server import Reply
from tests.workers.citizens import SURVEY, citizen

FILTERED = {"message": "The response was filtered", "type": None, "param": "prompt", "status": 400}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=400, body=json.dumps({"error": FILTERED | {"code": "content_filter"}})),
        Reply(status=400, body=json.dumps({"error": FILTERED | {"code": "content_policy_violation"}})),
        Reply(
            status=400,
            body=json.dumps({"error": FILTERED | {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        ),
        Reply(
            status=403,
            body=json.dumps({"error": FILTERED | {"code": 403, "metadata": {"reasons": ["x"], "flagged_input": "I"}}}),
        ),
        Reply(body=json.dumps({"error": FILTERED | {"code": "content_filter"}})),
    ],
    ids=["Azure", "OpenAI", "inner", "OpenRouter", "as a success"],
)
def test_a_prompt_that_the_providers_filter_declines_is_refused(openai_protocol: Protocol, reply: Reply) -> None:
    """Not failed, and not asked again: the filter would say the same. Its words are the reason, none of the model's."""
    with openai_protocol.engine(lambda got, before: reply, attempts=3) as (engine, server):
        completion = engine.submit(ask()).result(20)
        assert (completion.finish, completion.text) == (FinishReason.REFUSAL, "")
        assert completion.error == f"the server says {reply.status}: The response was filtered"
        assert len(server.got) == 1


def test_the_reason_of_a_declined_prompt_is_kept_with_the_answer(openai_protocol: Protocol) -> None:
    """Whoever reads the answers sees that a filter declined, in its own words."""
    reply = Reply(status=400, body=json.dumps({"error": FILTERED | {"code": "content_filter"}}))
    with openai_protocol.engine(lambda got, before: reply) as (engine, _):
        plan = run.Protocol(seed=7)
        asked: dict[str, Any] = {"survey": SURVEY, "questions": ("family",), "protocol": plan, "recall": {}}
        (step,) = interview(citizen(plan), **asked, engine=engine)
    assert (step.answers[0].state, step.answers[0].choices) == (run.AnswerState.REFUSED, ())
    assert step.answers[0].reason == "the server says 400: The response was filtered"
