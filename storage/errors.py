"""The two kinds of error that the command line ends with in one line; any other is a defect, with its traceback."""

from __future__ import annotations


class BadInput(Exception):
    """What the user gave or named cannot be used: exit code 2."""


class Failure(Exception):
    """Something went wrong although the input was good: exit code 1."""
