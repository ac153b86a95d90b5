"""Searches on made-up logits against the library's own loops, and sampled beams against their enumerated law."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations

import pytest
import torch
from scipy import stats

from defsurvey.workers.engines.transformers.core import drawing
from defsurvey.workers.engines.transformers.core.constraint import Constraint
from defsurvey.workers.engines.transformers.core.drawing import Draws, Stream, draw
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.search import start
from defsurvey.workers.engines.transformers.core.selection import select
from tests.workers.engine.scripted_logits import (
    Script,
    ScriptedModel,
    generated,
    random_script,
    searched,
    searched_together,
)


def same_as_generate(script: Script, vocabulary: int, request: ResolvedRequest) -> None:
    """A search finds what the library finds, fed from the same script."""
    assert searched(script, request) == generated(ScriptedModel(script, vocabulary), request, cache=False)


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("ends", [(), (1,), (1, 2), (1, 2, 3)])
def test_a_search_finds_what_generate_finds(beams: int, sampled: bool, ends: tuple[int, ...]) -> None:
    rng = random.Random(beams * 10 + sampled)
    for number in range(8):
        sampling = Sampling(
            temperature=rng.choice([1.0, 0.5, 1.7]), top_k=rng.choice([0, 2, 3, 50]), top_p=rng.choice([1.0, 0.9, 0.5])
        )
        request = ResolvedRequest(
            prompt=(4, 5, 6)[: rng.choice([1, 3])],
            num_beams=beams,
            sampling=sampling if sampled else None,
            max_new_tokens=rng.choice([1, 2, 5, 12]),
            ends=ends,
            seed=rng.randrange(2**62),
        )
        levels = rng.choice([None, None, 2, 3])
        same_as_generate(random_script(number, 9, levels=levels, spread=rng.choice([0.5, 2.0, 6.0])), 9, request)


@pytest.mark.parametrize("sampling", [None, Sampling(), Sampling(temperature=0.5, top_k=2)])
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("script", "tokens", "ends"),
    [
        (lambda tokens: torch.zeros(8), 6, (3, 5)),
        (lambda tokens: torch.tensor([0.0] * 7 + [9.0]), 9, (7,)),
        (random_script(2, 6, levels=None), 7, (1, 2, 3, 4, 5)),
        (random_script(1, 10, levels=3), 1, (3,)),
        (lambda tokens: torch.tensor([-math.inf, -math.inf, 0.0, -1.0, -math.inf, -math.inf]), 4, (5,)),
    ],
    ids=["all tie", "an end at once", "nearly all are ends", "one token only", "only two can be"],
)
def test_at_its_limits_a_search_finds_what_generate_finds(
    script: Script, tokens: int, ends: tuple[int, ...], beams: int, sampling: Sampling | None
) -> None:
    size = len(script((1,)))
    request = ResolvedRequest(prompt=(1,), num_beams=beams, sampling=sampling, max_new_tokens=tokens, ends=ends, seed=8)
    same_as_generate(script, size, request)


@pytest.mark.parametrize("sampling", [None, Sampling(), Sampling(temperature=0.7, top_k=3, top_p=0.9)])
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("most", [1, 3])
def test_a_constrained_search_finds_what_generate_finds_under_the_same_constraint(
    beams: int, sampling: Sampling | None, most: int
) -> None:
    first = {"1": (4,), "10": (4, 7), "2": (5,), "3": (6, 6)}
    later = {option: (8, *tokens) for option, tokens in first.items()}
    constraint = Constraint(first=first, later=later, most=most, ends=(1, 2))
    for seed in range(6):
        request = ResolvedRequest(
            prompt=(3, 4),
            num_beams=beams,
            sampling=sampling,
            max_new_tokens=12,
            ends=(1, 2),
            seed=seed,
            allowed=constraint.allowed,
        )
        script = random_script(seed, 10, levels=None)
        same_as_generate(script, 10, request)
        named = constraint.named(searched(script, request))
        assert named is not None
        assert 1 <= len(named) == len(set(named)) <= most


def _request(beams: int, sampling: Sampling | None, seed: int) -> ResolvedRequest:
    return ResolvedRequest(prompt=(1,), num_beams=beams, sampling=sampling, max_new_tokens=5, seed=seed)


# --- laws ---

LAW = random_script(11, 6, levels=None, spread=1.2)


def _chances_of_sets(weights: Sequence[float], count: int) -> dict[tuple[int, ...], float]:
    """Probability of each set of ``count`` different indices drawn one after the other, by adding up all orders."""
    total = sum(weights)
    chances = {}
    for chosen in combinations(range(len(weights)), count):
        chance = 0.0
        for order in permutations(chosen):
            left, product = total, 1.0
            for index in order:
                product *= weights[index] / left
                left -= weights[index]
            chance += product
        chances[chosen] = chance
    return chances


def _law_of_two_beams() -> dict[tuple[int, int], float]:
    """Probability of each reply of two tokens with two sampled beams: four candidates a step, the best two go on."""
    law: Counter[tuple[int, int]] = Counter()
    first = torch.log_softmax(LAW((0,)), -1).tolist()
    for drawn, chance in _chances_of_sets([math.exp(score) for score in first], 4).items():
        beams = sorted(drawn, key=lambda token: -first[token])[:2]
        scores = {}
        for beam in beams:
            for token, score in enumerate(torch.log_softmax(LAW((0, beam)), -1).tolist()):
                scores[beam, token] = first[beam] + score
        replies = list(scores)
        for ended, then in _chances_of_sets([math.exp(scores[reply]) for reply in replies], 4).items():
            best = max((replies[index] for index in ended), key=lambda reply: scores[reply])
            law[best] += chance * then
    return dict(law)


@pytest.mark.parametrize("draws", list(Draws))
def test_sampled_beams_follow_their_law(draws: Draws) -> None:
    law = _law_of_two_beams()
    assert math.isclose(sum(law.values()), 1.0, rel_tol=1e-6)
    seeds = 1500
    counts = Counter(
        tuple(
            searched(
                LAW, ResolvedRequest(prompt=(0,), num_beams=2, sampling=Sampling(), max_new_tokens=2, seed=seed), draws
            )
        )
        for seed in range(seeds)
    )
    assert set(counts) <= set(law)
    common = [reply for reply, chance in law.items() if chance * seeds >= 5]
    expected = [law[reply] * seeds for reply in common]
    observed = [counts[reply] for reply in common]
    rest, rare = seeds - sum(observed), seeds - sum(expected)
    test = stats.chisquare([*observed, rest], [*expected, rare]) if rare > 1 else stats.chisquare(observed, expected)
    assert test.pvalue > 0.001


@pytest.mark.parametrize("draws", list(Draws))
def test_single_draws_follow_the_softmax(draws: Draws) -> None:
    scores = torch.tensor([0.0, 1.0, -1.0, 0.5, -3.0])
    stream = Stream(1, draws)
    counts = Counter(int(draw(scores[None], 1, [stream])) for _ in range(4000))
    expected = torch.softmax(scores.double(), -1) * 4000
    assert stats.chisquare([counts[token] for token in range(5)], expected.tolist()).pvalue > 0.001


@pytest.mark.parametrize("draws", list(Draws))
def test_searches_that_go_on_together_find_what_each_finds_alone(draws: Draws) -> None:
    requests = [
        ResolvedRequest(
            prompt=(beams,), num_beams=beams, sampling=sampling, max_new_tokens=4, ends=ends, seed=2**62 + beams
        )
        for beams in range(1, 6)
        for sampling in (None, Sampling(), Sampling(temperature=0.7, top_k=4, top_p=0.9))
        for ends in ((), (3,), (3, 5))
    ]
    script = random_script(5, 9, levels=None)
    assert searched_together(script, requests, draws) == [searched(script, request, draws) for request in requests]


def test_hashed_noise_is_splitmix() -> None:
    stream = Stream(1234567, Draws.HASHED)
    key = stream.key()
    scores = torch.zeros(1, 50)
    noise = []
    for place in range(1, 51):
        word = drawing._mixed(key + place * 0x9E3779B97F4A7C15)
        noise.append(-math.log(-math.log(((word >> 11) + 0.5) / 2**53)))
    expected = sorted(range(50), key=lambda place: -noise[place])[:10]
    assert draw(scores, 10, [Stream(1234567, Draws.HASHED)])[0].tolist() == expected


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("vocabulary", [300, 50_257])
def test_the_librarys_draws_are_those_of_multinomial(count: int, vocabulary: int) -> None:
    scores = 3.0 * torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(1))
    streams = [Stream(seed, Draws.LIBRARY) for seed in range(4)]
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    for _ in range(5):
        weights = torch.softmax(scores, dim=-1)
        pairs = zip(weights, generators, strict=True)
        expected = [torch.multinomial(row, count, generator=generator).tolist() for row, generator in pairs]
        assert draw(scores, count, streams).tolist() == expected


def test_splitmix_gives_its_published_numbers() -> None:
    golden = 0x9E3779B97F4A7C15
    outputs = [drawing._mixed(1234567 + step * golden) for step in range(1, 4)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("draws", [None, *Draws])
@pytest.mark.parametrize("worst", [torch.nan, torch.inf])
@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_no_numbers_end_their_search_alone(draws: Draws | None, worst: float, beams: int) -> None:
    sampling = None if draws is None else Sampling()
    request = ResolvedRequest(prompt=(1,), num_beams=beams, sampling=sampling, max_new_tokens=3)
    searches = [start(request, draws or Draws.LIBRARY) for _ in range(3)]
    logits = torch.zeros(3, 12)
    logits[1, 4] = worst
    first, bad, last = select(searches, logits, [1, 1, 1])
    assert isinstance(bad, RuntimeError)
    assert first == last != bad
