"""Who is let in, and what gives way to whom."""

from __future__ import annotations

from defsurvey.workers.engines.transformers.decoder import Decoder
from defsurvey.workers.engines.transformers.request import ResolvedRequest
from defsurvey.workers.engines.transformers.scheduler import Limits
from tests.workers.engine.conftest import Tiny
from tests.workers.engine.tiny_models import Caught, decode

STRIDES = 10


def test_kept_prompts_do_not_give_way_to_who_has_to_wait_all_the_same(llama: Tiny) -> None:
    """They go once dropping them makes the room that is wanted, and only as many as it takes."""
    room = 64 * STRIDES * llama.layout.bytes_per_token
    decoder = Decoder(llama.model, llama.layout, Limits(kv_bytes=room, kept_bytes=room))
    kept = [tuple(range(first, first + 60)) for first in (1, 2, 3)]
    for prompt in kept:
        decode(decoder, [ResolvedRequest(prompt=prompt, max_new_tokens=2)])
    running, waiting, last = Caught(), Caught(), Caught()
    decoder.add(ResolvedRequest(prompt=(7, *range(89)) * 4, max_new_tokens=40), running)  # 364 tokens and a few: 6 or 7
    decoder.step()
    decoder.add(ResolvedRequest(prompt=(8, *range(89)) * 4, max_new_tokens=40), waiting)
    decoder.step()
    running.gone = waiting.gone = True
    decoder.step()
    before = decoder.counters().reused_tokens
    decoder.add(ResolvedRequest(prompt=(*kept[0], 5), max_new_tokens=2), last)
    while decoder.unfinished:
        decoder.step()
    assert decoder.counters().reused_tokens == before + 60
    decoder.close()
