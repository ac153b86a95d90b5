"""Scripted respondents: what they choose, how they say it, when."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from defsurvey.storage.runs.run import Decoding
from defsurvey.storage.surveys.survey import Group, Question, ReferenceDistribution, Survey
from defsurvey.workers.engines.base import Asked, Completion, EngineUnavailable, FinishReason, Request, give_up
from defsurvey.workers.engines.scripted import ScriptedEngine, choose_mode, draw_multiple
from defsurvey.workers.models import ModelCard
from tests.workers.citizens import DIVORCE, FAMILY
from tests.workers.conftest import MORE_QUALITIES as QUALITIES


def _card(respondent: str, latency: float = 0.0) -> ModelCard:
    return ModelCard(name="someone", engine="scripted", respondent=respondent, latency_seconds=latency)


def _request(
    question: Question, seed: int, *, culture: str = "us", language: str = "en", shown: tuple[int, ...] | None = None
) -> Request:
    asked = Asked(question=question, culture=culture, language=language, shown=shown or question.codes)
    return Request(messages=(), decoding=Decoding(), seed=seed, asked=asked)


def _replies(survey: Survey, respondent: str, question: Question, number: int, **asked: str) -> list[Completion]:
    engine = ScriptedEngine(_card(respondent), survey)
    return [engine.submit(_request(question, seed, **asked)).result() for seed in range(number)]


def _chosen(survey: Survey, respondent: str, question: Question, number: int, **asked: str) -> list[tuple[int, ...]]:
    """The codes of canonical replies, read with a regular expression of the test's own."""
    first = [reply.text.splitlines()[0] for reply in _replies(survey, respondent, question, number, **asked)]
    return [tuple(int(code) for code in re.findall(r"(?:^Answer: |; )(\d+)", line)) for line in first]


def _fits(draws: Sequence[tuple[int, ...]], shares: Mapping[int, float]) -> bool:
    counts = Counter(code for codes in draws for code in codes)
    return all(stats.binomtest(counts[code], len(draws), share).pvalue > 1e-4 for code, share in shares.items())


def test_human_answers_are_drawn_from_the_reference_distribution(small_survey: Survey) -> None:
    shares = {"us": {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}, "cn": {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}}
    for culture, other in (("us", "cn"), ("cn", "us")):
        chosen = _chosen(small_survey, "human", FAMILY, 4000, culture=culture)
        assert _fits(chosen, shares[culture])
        assert not _fits(chosen, shares[other])


def test_human_choices_from_a_list_keep_every_share(small_survey: Survey) -> None:
    chosen = _chosen(small_survey, "human", QUALITIES, 4000)
    assert {len(codes) for codes in chosen} == {2, 3}  # the shares sum to 2.5
    assert all(len(set(codes)) == len(codes) for codes in chosen)
    assert _fits(chosen, {1: 0.9, 2: 0.75, 3: 0.55, 4: 0.2, 5: 0.1})


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.4, 0.2, 0.2, 0.0, 0.0), (0.5, 0.25, 0.25, 0.0, 0.0)),  # sums to 0.8: someone chose nothing
        ((0.9, 0.9, 0.9, 0.9, 0.4), (0.675, 0.675, 0.675, 0.675, 0.3)),  # sums to 4: one more than may be chosen
    ],
)
def test_shares_that_no_list_of_choices_can_keep_are_scaled(
    shares: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """A list is never answered with nothing or with too much: then the shares are scaled, and only then."""
    generator = np.random.default_rng(1)
    by_code = dict(zip(QUALITIES.codes, shares, strict=True))
    draws = [draw_multiple(QUALITIES, by_code, generator) for _ in range(3000)]
    assert all(1 <= len(codes) <= 3 for codes in draws)
    assert _fits(draws, dict(zip(QUALITIES.codes, expected, strict=True)))


def test_options_of_a_list_whose_share_is_not_known_are_not_shares_of_zero() -> None:
    """Known options keep their shares exactly; the unknown ones are chosen where a reply would be empty without."""
    generator = np.random.default_rng(2)
    draws = [draw_multiple(QUALITIES, {1: 0.4, 2: 0.2}, generator) for _ in range(4000)]
    assert _fits(draws, {1: 0.4, 2: 0.2, 3: 0.4 / 3, 4: 0.4 / 3, 5: 0.4 / 3})
    full = [draw_multiple(QUALITIES, {1: 0.9, 2: 0.8}, generator) for _ in range(500)]
    assert {code for codes in full for code in codes} == {1, 2}
    assert choose_mode(QUALITIES, {4: 0.0, 5: 0.3}) == (5,)
    assert choose_mode(QUALITIES, {4: 0.0}) == (4,)


def test_mode_gives_what_most_people_answered(small_survey: Survey) -> None:
    assert set(_chosen(small_survey, "mode", FAMILY, 20)) == {(1,)}
    assert set(_chosen(small_survey, "mode", FAMILY, 20, culture="cn")) == {(4,)}
    assert set(_chosen(small_survey, "mode", DIVORCE, 20)) == {(2,)}
    assert set(_chosen(small_survey, "mode", QUALITIES, 20)) == {(1, 2, 3)}


def test_uniform_takes_any_option_alike(small_survey: Survey) -> None:
    assert _fits(_chosen(small_survey, "uniform", FAMILY, 4000, culture="nowhere"), dict.fromkeys(range(1, 5), 0.25))
    lists = _chosen(small_survey, "uniform", QUALITIES, 3000)
    assert _fits(lists, dict.fromkeys(QUALITIES.codes, 0.4))
    assert _fits([(len(codes),) for codes in lists], dict.fromkeys((1, 2, 3), 1 / 3))


def test_first_shown_follows_the_order_shown(small_survey: Survey) -> None:
    engine = ScriptedEngine(_card("first-shown"), small_survey)
    reply = engine.submit(_request(FAMILY, 5, shown=(3, 1, 4, 2))).result()
    assert reply.text.startswith("Answer: 3: Not very important\nExplanation: ")


def test_replies_are_canonical_in_the_prompts_language(small_survey: Survey) -> None:
    engine = ScriptedEngine(_card("mode"), small_survey)
    expected = [
        (FAMILY, "en", "Answer: 1: Very important\nExplanation: "),
        (FAMILY, "zh", "答案：1：非常重要\n解释："),
        (QUALITIES, "en", "Answer: 1: Good manners; 2: Hard work; 3: Imagination\nExplanation: "),
        (QUALITIES, "zh", "答案：1：有礼貌；2：勤奋；3：想象力\n解释："),
        (DIVORCE, "en", "Answer: 2\nExplanation: "),
    ]
    for question, language, text in expected:
        reply = engine.submit(_request(question, 1, language=language)).result().text
        assert reply.startswith(text)
        assert len(reply) > len(text)


def test_equal_requests_get_equal_replies_and_other_people_get_their_own(small_survey: Survey) -> None:
    """The seed decides; people of two cultures do not share their luck although they share their seeds."""
    first = [reply.text for reply in _replies(small_survey, "human", FAMILY, 200)]
    assert first == [reply.text for reply in _replies(small_survey, "human", FAMILY, 200)]
    alike = ReferenceDistribution(
        question="family", culture="us", group=Group.ALL, shares=dict.fromkeys((1, 2, 3, 4), 0.25), n=100
    )
    same = replace(small_survey, fingerprint="", references=(alike, replace(alike, culture="cn")))
    us, cn = (_chosen(same, "human", FAMILY, 400, culture=culture) for culture in ("us", "cn"))
    assert 50 < sum(a == b for a, b in zip(us, cn, strict=True)) < 150  # a quarter by chance


def test_what_is_not_known_is_an_error_that_names_it(small_survey: Survey) -> None:
    for respondent in ("human", "mode"):
        (reply,) = _replies(small_survey, respondent, QUALITIES, 1, culture="cn")
        assert (reply.finish, reply.text) == (FinishReason.ERROR, "")
        assert "question qualities" in reply.error
        assert "culture cn" in reply.error
    engine = ScriptedEngine(_card("uniform"), small_survey)
    reply = engine.submit(Request(messages=(), decoding=Decoding(), seed=1)).result()
    assert reply.finish is FinishReason.ERROR
    assert "what it is asked" in reply.error


def test_replies_with_latency_overlap(small_survey: Survey) -> None:
    """Hundreds of replies that take a quarter of a second each are there together, and not before."""
    engine = ScriptedEngine(_card("uniform", latency=0.25), small_survey)
    begun = time.monotonic()
    futures = [engine.submit(_request(FAMILY, seed)) for seed in range(400)]
    assert not any(future.done() for future in futures) or time.monotonic() - begun > 0.25
    done, pending = wait(futures, timeout=10)
    elapsed = time.monotonic() - begun
    engine.close()
    assert not pending
    assert len(done) == 400
    assert 0.25 <= elapsed < 5


def test_closing_cancels_what_is_under_way_and_takes_no_more(small_survey: Survey) -> None:
    engine = ScriptedEngine(_card("uniform", latency=60.0), small_survey)
    future = engine.submit(_request(FAMILY, 1))
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 5
    assert future.cancelled()
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.submit(_request(FAMILY, 2))


@pytest.mark.parametrize("by_its_owner", [False, True])
def test_what_is_given_up_is_over_for_those_who_wait(caplog: pytest.LogCaptureFixture, *, by_its_owner: bool) -> None:
    """Whoever cancelled it, and however often it is given up: a future that is told of twice is a defect."""
    future: Future[Completion] = Future()
    if by_its_owner:
        assert future.cancel()
    for _ in range(2):
        give_up(future)
        assert wait([future], timeout=0).done
    with pytest.raises(CancelledError):
        future.result(0)
    assert not caplog.records
