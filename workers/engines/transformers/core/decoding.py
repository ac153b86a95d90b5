"""What a request may ask of decoding, and what is done about all that it cannot ask."""

from __future__ import annotations

from defsurvey.storage.runs.run import Decoding, UsedDecoding

#: Each setting at the value at which it does nothing; zero switches top_k off. Of these a request sets top_k alone.
SWITCHED_OFF = {
    "top_k": 0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "early_stopping": False,
    "num_return_sequences": 1,
}


def resolve_decoding(decoding: Decoding) -> UsedDecoding:
    """What will really be done: without sampling, temperature, top_p and top_k do nothing, which is 1, 1 and 0.

    Raises:
        ValueError: a value is out of range.
    """
    limits = {
        "num_beams": (decoding.num_beams >= 1, "at least 1"),
        "temperature": (decoding.temperature > 0 or not decoding.do_sample, "above 0"),
        "top_p": (0 < decoding.top_p <= 1, "above 0 and at most 1"),
        "top_k": (decoding.top_k >= 0, "at least 0"),
        "max_new_tokens": (decoding.max_new_tokens >= 1, "at least 1"),
    }
    for name, (right, expected) in limits.items():
        if not right:
            raise ValueError(f"decoding: {name}: expected {expected}, got {getattr(decoding, name)}")
    return UsedDecoding(
        num_beams=decoding.num_beams,
        do_sample=decoding.do_sample,
        temperature=decoding.temperature if decoding.do_sample else 1.0,
        top_p=decoding.top_p if decoding.do_sample else 1.0,
        top_k=decoding.top_k if decoding.do_sample else 0,
        max_new_tokens=decoding.max_new_tokens,
    )
