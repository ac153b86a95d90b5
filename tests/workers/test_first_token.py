"""Option probabilities: in which orders, by which engines, and that no question is weighed twice."""

from dataclasses import replace

import pytest
import torch

from defsurvey.jobs.progress import snapshot
from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, recovery, store
from defsurvey.storage.runs.steps import read_probabilities
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers import opening
from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.models import ModelCard
from defsurvey.workers.runner.participant_runner import Outcome
from defsurvey.workers.simulation.interview import interview
from defsurvey.workers.simulation.methods import questionnaire
from defsurvey.workers.simulation.methods.first_token import FirstToken
from defsurvey.workers.simulation.methods.method import Questionnaire
from tests.storage.what_is_there import progress_of
from tests.workers.citizens import AIM, DIVORCE, FAMILY, QUALITIES, QUESTIONS, SURVEY, US, Asked, citizen
from tests.workers.steps.mortal import worker
from tests.workers.working import PROTOCOL

FIRST_TOKEN = BUILT_IN_CONDITIONS["first-token"]


def _asking(survey: Survey, *questions: str) -> Questionnaire:
    who = citizen(PROTOCOL, condition=FIRST_TOKEN)
    return questionnaire(who, survey=survey, questions=questions, protocol=PROTOCOL)


def test_options_are_weighed_in_several_orders() -> None:
    """Ordered ones both ways, others rotated so that each stands first once; residual ones stay last."""
    orders = FirstToken().option_orders
    assert orders(FAMILY) == ((1, 2, 3, 4), (4, 3, 2, 1))
    assert orders(DIVORCE) == (tuple(range(1, 11)), tuple(range(10, 0, -1)))
    assert orders(AIM) == ((1, 2, 3, 4), (2, 3, 1, 4), (3, 1, 2, 4))
    assert orders(QUALITIES) == ((1, 2, 3, 4), (2, 3, 4, 1), (3, 4, 1, 2), (4, 1, 2, 3))


def _tiny_request(*choices: str) -> Request:
    messages = (Message(role="user", content="How many?"),)
    return replace(_asking(SURVEY, *QUESTIONS).request(0), messages=messages, choices=choices)


@pytest.mark.parametrize("alone", [False, True])
def test_probabilities_are_those_of_the_model(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    """Against a plain forward, and by the chain rule where one choice begins another, on both ways of serving."""
    if alone:

        def refuse(_model: object) -> None:
            raise UnsupportedModel("for the test")

        monkeypatch.setattr(opening, "adopt", refuse)
    engine = opening.serve(tiny_card, opening.in_memory(tiny_loaded), threads=1)
    apart = engine.submit(_tiny_request("1", "2", "7")).result(60)
    nested = engine.submit(_tiny_request("1", "2", "10", "12")).result(60)
    spoken = engine.submit(replace(_tiny_request(), choices=())).result(60)
    engine.close()

    def following(text: str) -> dict[str, float]:
        ids = tiny_loaded.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            row = tiny_loaded.model(input_ids=ids).logits[0, -1].softmax(-1)
        return {sign: float(row[tiny_loaded.tokenizer.convert_tokens_to_ids(sign)]) for sign in "01278"}

    begun = "[user] How many?\n[assistant] Answer: "
    first, second = following(begun), following(f"{begun}1")
    total = first["1"] + first["2"] + first["7"]
    assert apart.probabilities == pytest.approx([first[sign] / total for sign in "127"])
    ones = [1 - second["0"] - second["2"], second["0"], second["2"]]
    expected = [first["1"] * ones[0], first["2"], first["1"] * ones[1], first["1"] * ones[2]]
    assert nested.probabilities == pytest.approx([one / (first["1"] + first["2"]) for one in expected], rel=1e-5)
    assert nested.finish is FinishReason.STOP
    assert spoken.probabilities is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("human", [0.5, 0.3, 0.15, 0.05]), ("first-shown", [0.5, 0, 0, 0.5]), ("uniform", [0.25] * 4)],
)
def test_scripted_respondents_are_weighed_by_their_rule(rule: str, expected: list[float], small_survey: Survey) -> None:
    """The mean over both orders of an ordinal question; `human` gives the reference distribution itself."""
    survey = replace(small_survey, cultures=(US,))
    (weighed,) = interview(_asking(survey, "family"), engine=Asked(rule, survey=survey), recall={})
    shares = dict.fromkeys(survey.questions[0].codes, 0.0)
    for one in weighed.probabilities:
        for code, probability in zip(one.shown, one.probabilities, strict=True):
            shares[code] += probability / len(weighed.probabilities)
    assert list(shares.values()) == pytest.approx(expected)


def test_an_engine_without_probabilities_is_refused() -> None:
    talker = Asked(then=lambda _number, _request, said: replace(said, probabilities=None))
    with pytest.raises(EngineUnavailable, match="replies and no probabilities"):
        next(interview(_asking(SURVEY, "family"), engine=talker, recall={}))


def _started(database: Database) -> int:
    draws = citizen(PROTOCOL, condition=FIRST_TOKEN).draws
    cell = store.NewCell(model="quick", culture="us", condition=FIRST_TOKEN, language="en", draws=(draws,))
    new = store.NewRun(
        id="r",
        survey=replace(SURVEY, fingerprint="f" * 64),
        questions=("family", "aim", "divorce"),
        protocol=PROTOCOL,
        design="d",
        study="s",
        cells=(cell,),
    )
    store.add_run(database, new)
    return outbox.outgoing(database)[0].participant


def test_a_question_is_weighed_once_whoever_goes_on(database: Database) -> None:
    """Let go after the first question, taken up by another worker: nothing twice, and the run is finished."""
    who = _started(database)
    first = worker(database, one := Asked(), owner="hand:1:x")
    first.leases.count = lambda run: first.stop()  # type: ignore[method-assign]
    assert first.simulate(who) is Outcome.RELEASED
    assert worker(database, other := Asked(), owner="hand:2:x").simulate(who) is Outcome.FINISHED
    assert (len(one.requests), len(other.requests)) == (2, 3 + 2)
    assert len(read_probabilities(database, "r")) == 2 * 4 + 3 * 4 + 2 * 10
    assert outbox.unfinished(database, "r") == 0
    assert progress_of(database, "r").planned == 0
    assert [due for due, *_ in outbox.reports_due(database)] == ["r"]


def test_what_was_not_weighed_is_weighed_again_when_it_is_asked_for(database: Database) -> None:
    """With all that was weighed behind it: nothing is drawn, so that this comes to the same."""
    who = _started(database)

    def forget(_number: int, request: Request, said: Completion) -> Completion:
        if request.asked is not None and request.asked.question.id == "aim":
            raise IndexError("of a beam")
        return said

    worker(database, Asked(then=forget), owner="hand:1:x").simulate(who)
    before = {row.question for row in read_probabilities(database, "r")}
    now = snapshot(database, "r")
    assert (now.progress.planned, now.unweighed, now.complete) == (0, 3 - len(before), False)
    assert recovery.reopen_unweighed(database, "r") == 1
    assert recovery.reopen_unweighed(database, "other") == 0
    assert [message.participant for message in outbox.outgoing(database)] == [who]
    assert worker(database, again := Asked(), owner="hand:2:x").simulate(who) is Outcome.FINISHED
    assert {request.asked.question.id for request in again.requests if request.asked} == {"aim", "divorce"}
    assert {row.question for row in read_probabilities(database, "r")} == before | {"aim"}
    assert (snapshot(database, "r").unweighed, snapshot(database, "r").complete) == (0, True)
    assert recovery.reopen_unweighed(database, "r") == 0
