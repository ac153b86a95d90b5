"""The command line. What is heavier than click is imported by the verb that needs it: ``--help`` answers at once."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from typing import Any

import click

from defsurvey.jobs.cli import daemons, judging, models, results, runs, surveys
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import DISK, ERROR, INTERRUPTED, USAGE
from defsurvey.storage.errors import BadInput, Failure
from defsurvey.storage.text import visible


def told(error: BaseException, settings: Settings | None) -> tuple[int, str] | None:
    """The exit code and the line of an expected error; None for a defect. ``settings`` may not be known yet."""
    import redis
    from sqlalchemy.exc import DatabaseError

    from defsurvey.jobs.daemons.startup import unavailable
    from defsurvey.storage.address import shown
    from defsurvey.storage.runs.store import UnknownRun
    from defsurvey.workers.runner.faults import OUTAGE

    if isinstance(error, redis.RedisError):
        return ERROR, f"broker: {error}"
    # Of the database's errors those that are not about what it was given: it, or its disk, is at fault.
    if settings and (isinstance(error, OUTAGE) or type(error) is DatabaseError):
        return ERROR, str(unavailable(settings, error))
    where = f" (in {shown(settings.database_url)})" if settings and isinstance(error, UnknownRun) else ""
    line = visible(str(error)) + where
    if isinstance(error, BadInput):
        return USAGE, line
    of_file = isinstance(error, OSError) and (error.filename is not None or error.errno in DISK)
    return (ERROR, line) if of_file or isinstance(error, Failure) else None


class Verbs(click.Group):
    """The verbs, and the one place where an error becomes a line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Begin with three streams: one that was closed before leads to nothing, so that no file has its number."""
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if getattr(sys, name) is None:
                opened = os.open(os.devnull, os.O_RDWR)
                os.set_inheritable(opened, True)
                setattr(sys, name, os.fdopen(opened, "w" if number else "r", encoding="utf-8"))
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; expected errors become one line on stderr."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted; what was committed is kept: defsurvey resume goes on", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            expected = told(error, ctx.obj)
            if expected is None:
                raise
            code, line = expected
            click.echo(f"defsurvey: {line}", err=True)
            ctx.exit(code)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="defsurvey")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Language models answer surveys as simulated citizens; a report compares them with what people answered."""
    # The interpreter's last search for cycles finds nothing that matters: half a second where a report was built.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put another in its place
            stream.reconfigure(errors="backslashreplace")
    ctx.obj = Settings.from_environment(os.environ)


for _module in (runs, results, judging, surveys, models, daemons):
    for _verb in _module.VERBS:
        main.add_command(_verb)


if __name__ == "__main__":
    main()
