"""Searches on made-up logits against the library's own loops, and sampled beams against their enumerated law."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations

import pytest
import torch
from scipy import stats

from tests.workers.engine.scripted_logits import Script, ScriptedModel, generated, random_script, searched
from workers.engines.transformers.request import ResolvedRequest, Sampling
from workers.engines.transformers.selector import Draws, draw


def _same_as_generate(script: Script, vocabulary: int, request: ResolvedRequest) -> None:
    expected = generated(ScriptedModel(script, vocabulary), request, cache=False)
    assert searched(script, request) == expected


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("ends", [(), (1,), (1, 2), (1, 2, 3)])
def test_a_search_finds_what_generate_finds(beams: int, sampled: bool, ends: tuple[int, ...]) -> None:
    """Over settings, lengths and scripts, half of them full of ties."""
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
        _same_as_generate(random_script(number, 9, levels=levels, spread=rng.choice([0.5, 2.0, 6.0])), 9, request)


def test_all_beams_tie() -> None:
    """Every continuation is as good as every other; the choice among them is the library's."""
    for beams in (1, 2, 5):
        for ends in ((), (3,), (3, 5)):
            request = ResolvedRequest(prompt=(1,), num_beams=beams, max_new_tokens=6, ends=ends)
            _same_as_generate(lambda tokens: torch.zeros(8), 8, request)


def test_an_end_is_the_likeliest_token_at_once() -> None:
    """A reply may be one end and nothing else, with beams and without."""
    script = _always({7: 9.0})
    for beams in (1, 3):
        request = ResolvedRequest(prompt=(1,), num_beams=beams, max_new_tokens=9, ends=(7,))
        _same_as_generate(script, 8, request)
        assert searched(script, request) == [7]


def test_nearly_every_token_is_an_end() -> None:
    """All candidates of a step can end at once: then that is the end of the search."""
    for sampling in (None, Sampling(), Sampling(top_k=2)):
        for beams in (1, 2, 4):
            request = ResolvedRequest(
                prompt=(0,), num_beams=beams, sampling=sampling, max_new_tokens=7, ends=(1, 2, 3, 4, 5), seed=8
            )
            _same_as_generate(random_script(2, 6, levels=None), 6, request)


def test_one_token_only() -> None:
    """The first step is the last one: everything hits."""
    for sampling in (None, Sampling()):
        for beams in (1, 2, 5):
            request = ResolvedRequest(prompt=(1, 2), num_beams=beams, sampling=sampling, max_new_tokens=1, ends=(3,))
            _same_as_generate(random_script(1, 10, levels=3), 10, request)
            assert len(searched(random_script(1, 10, levels=3), request)) == 1


def test_a_certain_beam_leaves_nothing_to_the_others() -> None:
    """Scores of minus infinity and beams that are not there are handled as the library does."""
    script = _always({2: 0.0, 3: -1.0}, rest=-math.inf)
    for sampling in (None, Sampling(temperature=0.5)):
        request = ResolvedRequest(prompt=(1,), num_beams=3, sampling=sampling, max_new_tokens=4, ends=(5,), seed=4)
        _same_as_generate(script, 6, request)


def test_seeds_matter_only_to_sampling() -> None:
    """Other seeds give other samples, and the same beams."""
    script = random_script(0, 12, levels=None, spread=1.0)
    for beams in (1, 3):
        sampled = {tuple(searched(script, _request(beams, Sampling(), seed))) for seed in range(12)}
        plain = {tuple(searched(script, _request(beams, None, seed))) for seed in range(12)}
        assert len(sampled) > 3
        assert len(plain) == 1


def _request(beams: int, sampling: Sampling | None, seed: int) -> ResolvedRequest:
    return ResolvedRequest(prompt=(1,), num_beams=beams, sampling=sampling, max_new_tokens=5, seed=seed)


def _always(scores: dict[int, float], rest: float = 0.0) -> Script:
    def script(tokens: tuple[int, ...]) -> torch.Tensor:
        size = max(scores) + 1
        return torch.tensor([scores.get(token, rest) for token in range(max(size, 6))])

    return script


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
    """The replies of 1,500 seeds against the enumerated distribution."""
    law = _law_of_two_beams()
    assert math.isclose(sum(law.values()), 1.0, rel_tol=1e-6)
    seeds = 1500
    counts = Counter(
        tuple(
            searched(
                LAW,
                ResolvedRequest(prompt=(0,), num_beams=2, sampling=Sampling(), max_new_tokens=2, seed=seed),
                draws,
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
    """4,000 draws of one token, chi-square."""
    scores = torch.tensor([0.0, 1.0, -1.0, 0.5, -3.0])
    generator = torch.Generator().manual_seed(1)
    counts = Counter(int(draw(scores, 1, generator, draws)) for _ in range(4000))
    expected = torch.softmax(scores.double(), -1) * 4000
    assert stats.chisquare([counts[token] for token in range(5)], expected.tolist()).pvalue > 0.001


@pytest.mark.parametrize("draws", list(Draws))
def test_draws_are_different_even_where_one_token_is_nearly_certain(draws: Draws) -> None:
    """Drawing without replacement ends although the other tokens hardly ever come."""
    scores = torch.tensor([0.0, -60.0, -61.0, -62.0])
    drawn = draw(scores, 3, torch.Generator().manual_seed(3), draws).tolist()
    assert drawn[0] == 0
    assert len(set(drawn)) == 3


def test_a_seed_draws_what_the_global_seed_draws() -> None:
    """A generator of a request's own stands in for ``torch.manual_seed``."""
    scores = torch.randn(500, generator=torch.Generator().manual_seed(0))
    for seed in (0, 7, 2**62 + 5):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        for count in (1, 8, 1):
            expected = torch.multinomial(torch.softmax(scores, -1), count)
            assert draw(scores, count, generator, Draws.LIBRARY).tolist() == expected.tolist()
