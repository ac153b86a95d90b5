"""What this processor computes fastest."""

from __future__ import annotations

import os

from defsurvey.workers.engines.transformers.cpu.library import ov

#: Values of oneDNN's variable that hold it to instructions without products in bfloat16.
_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}


def fastest_type() -> str:
    """``bfloat16`` where the processor multiplies in it and oneDNN may use that, else ``float32``.

    OpenVINO names what the processor has, and does not regard the variable by which oneDNN is held to less.
    """
    held = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    computes = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bfloat16" if computes and held not in _WITHOUT_BFLOAT16 else "float32"
