"""The command line's verbs that look after an installation: doctor."""

from __future__ import annotations

import sys

import click

from defsurvey.jobs.cli.options import JSON, print_json
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DONE, ERROR


@click.command()
@JSON
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> None:
    """Whether this machine has what runs need, and what to do where it has not; 1 where none can go on."""
    from defsurvey.jobs.doctor import BAD, examine

    found = []
    for finding in examine(settings):
        found.append(finding)
        if not as_json:
            click.echo(str(finding))
    well = all(finding.state != BAD for finding in found)
    if as_json:
        findings = [{"name": f.name, "state": f.state, "said": f.said, "remedy": f.remedy} for f in found]
        print_json({"well": well, "findings": findings})
    sys.exit(DONE if well else ERROR)


VERBS = (doctor,)
