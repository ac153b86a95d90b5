"""Versions of what computes the answers, for provenance."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

#: Packages whose versions a report names.
_PACKAGES = ("defsurvey", "torch", "transformers", "numpy", "celery")


def versions() -> dict[str, str]:
    """Package, or ``python`` -> its version, of those that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
