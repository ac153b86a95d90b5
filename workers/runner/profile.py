"""Where a model's time went, in words: the batch's counters as a worker's log shows them."""

from __future__ import annotations

from collections.abc import Iterator

from defsurvey.workers.engines.base import Counting


def profile(model: str, engine: object) -> Iterator[str]:
    """Lines that say what an engine has computed and where the time went; one line for an engine that counts nothing.

    Args:
        model: the model's name.
        engine: what has served it.
    """
    if not isinstance(engine, Counting):
        yield f"profile of {model}: its engine counts nothing"
        return
    counters = engine.counters()
    busy = sum(seconds for phase, seconds in counters.seconds.items() if phase != "idle")
    yield (
        f"profile of {model}: {counters.finished} replies, {counters.reply_tokens} tokens in {busy:.1f} s"
        f" ({counters.tokens_per_second:.1f} tokens/s)"
    )
    if counters.finished and not counters.steps:
        yield f"  one request at a time; prompts: {counters.prefilled_tokens} tokens computed"
    else:
        yield (
            f"  {counters.steps} steps of {counters.rows_per_step:.1f} rows;"
            f" prompts: {counters.prefilled_tokens} tokens computed, {counters.reused_tokens} taken over"
        )
        yield (
            f"  keys and values: at most {counters.peak_kv_bytes / 1e6:.0f} MB; {counters.compactions} compactions,"
            f" {counters.restarted} requests begun again"
        )
    for phase, seconds in counters.seconds.items():
        share = f"{seconds / busy:6.1%}" if busy and phase != "idle" else ""
        yield f"  {phase:8} {seconds:9.2f} s {share}".rstrip()
