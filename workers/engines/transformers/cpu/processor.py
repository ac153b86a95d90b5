"""What this processor computes fastest, and how its libraries say that memory has run out."""

from __future__ import annotations

import os

from defsurvey.workers.engines.transformers.cpu.library import ov

#: What the messages of errors hold that mean too little memory, beside MemoryError and torch's own. Each was produced
#: with SmolLM2 in float32 and RLIMIT_AS set to what the process had plus 5 to 400 MB, but the last.
OUT_OF_MEMORY_WORDS = (
    "Failed to allocate",  # RuntimeError of a step of 3 to 12 prompts, and of compiling: a node's result or buffer
    "can't alloc",  # RuntimeError of a step of 3 prompts with 200 MB left: a matrix product's node
    "posix_memalign failed",  # RuntimeError of a step of 12 prompts with 60 MB left: buffers of the attention
    "bad_alloc",  # RuntimeError of compiling with 150 MB left
    "failed to map segment",  # RuntimeError of compiling with 50 MB left: the plugin itself could not be loaded
    "could not create a primitive",  # oneDNN under torch, as it was met before OpenVINO computed; not produced here
)
#: Goes on from the last of them where oneDNN does not compute a type at all, as bfloat16 where it is held to AVX2.
_NOT_COMPUTED = "could not create a primitive descriptor"

#: Values of oneDNN's variable that hold it to instructions without products in bfloat16.
_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}


def tells_of_too_little_memory(message: str) -> bool:
    """Whether the message of an error says that memory has run out."""
    return _NOT_COMPUTED not in message and any(words in message for words in OUT_OF_MEMORY_WORDS)


def fastest_type() -> str:
    """``bfloat16`` where the processor multiplies in it and oneDNN may use that, else ``float32``.

    OpenVINO names what the processor has, whatever oneDNN is held to by its variable; held to AVX2, the
    first step in bfloat16 then fails.
    """
    held = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    computes = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if computes and held not in _WITHOUT_BFLOAT16 else "float32"
