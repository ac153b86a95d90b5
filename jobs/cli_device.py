"""The command line's option that says where models run: ``cpu``, ``cuda`` or ``cuda:N``.

Knows how a device is written. Deliberately does not know which ones this machine has: that takes torch.
"""

from __future__ import annotations

import re
from typing import Any

import click

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class Device(click.ParamType[str]):
    """``cpu``, ``cuda``, or ``cuda:`` and the number of a GPU."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """What was typed, if it is a device."""
        if not _DEVICE.fullmatch(value):
            self.fail(f"expected cpu, cuda or cuda:N, got {value!r}", param, ctx)
        return str(value)


DEVICE = click.option(
    "--device", type=Device(), default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:N."
)
