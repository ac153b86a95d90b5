"""What this processor computes fastest, and how its libraries say that memory has run out."""

from __future__ import annotations

from defsurvey.workers.engines.transformers.cpu.library import ov


def fastest_type() -> str:
    """``bfloat16`` where the processor multiplies in it, else ``float32``."""
    return "bfloat16" if ov.Core().get_property("CPU", "INFERENCE_PRECISION_HINT") == ov.Type.bf16 else "float32"
