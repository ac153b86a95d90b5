"""The command line's option that says where models run: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

from __future__ import annotations

import re
from typing import Any

import click

#: ``auto:N`` is for workers that a command starts beside others, see ``workers.engines.device``.
_DEVICE = re.compile(r"cpu|(auto|cuda)(:\d+)?")


class Device(click.ParamType[str]):
    """A device as it is written; whether this machine has it is found out when a model is loaded, by torch."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """What was typed, if it is a device."""
        if not _DEVICE.fullmatch(value):
            self.fail(f"expected auto, cpu, cuda or cuda:N, got {value!r}", param, ctx)
        return str(value)


DEVICE = click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="auto, cpu, cuda or cuda:N; auto is the first GPU that torch can use, else the CPU.",
)
