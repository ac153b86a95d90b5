"""How to read a report: the terms of its method section."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from defsurvey.reports.analysis import READ, why_not
from defsurvey.reports.page import Term
from defsurvey.storage.runs.run import Reply


def method(reply: Reply) -> tuple[Term, ...]:
    """The terms of a run whose replies were read that far."""
    terms = tomllib.loads(files("defsurvey.reports").joinpath("templates/method.toml").read_text("utf-8"))["term"]
    lacking = " Diversity D, and what a judge says of explanations (cv, ff), need whole replies and are not given."
    read = f"Read {READ[reply]} (reply: {reply.value}).{lacking if why_not(reply) else ''}"
    return (*(Term(**term) for term in terms), Term(name="Replies", value=read))
