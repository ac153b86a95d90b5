"""Imports OpenVINO without its telemetry.

The package's own ``import`` sends an event to Intel through ``openvino_telemetry``, and so do its converter and nncf,
unless that package cannot be imported. Whoever wants OpenVINO takes ``ov`` from here, before anybody imports it.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

#: What is not to be imported: the reporter, and the command-line converter, which is not used and takes 0.1 s.
_UNWANTED = ("openvino_telemetry", "openvino.tools.ovc")

_modules: dict[str, Any] = sys.modules
for _name in _UNWANTED:
    _modules.setdefault(_name, None)  # None: an import of it raises ImportError, which all of them expect

import openvino  # type: ignore[import-untyped]  # noqa: E402

ov: Any = openvino


def release() -> str:
    """The version of OpenVINO, as ``2026.4.1``."""
    return version("openvino")
