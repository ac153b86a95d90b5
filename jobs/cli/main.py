"""The command line: each verb reads its options, calls one function and prints.

Everything heavier than click is imported by the verb that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import codecs
import gc
import io
import os
import sys
from typing import Any

import click

from defsurvey.jobs.cli import daemons, judging, models, results, runs, surveys
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import INTERRUPTED

_ESCAPED = "defsurvey-escaped"


class Verbs(click.Group):
    """The verbs, and the one place where an error becomes a line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Begin with three streams, whoever closed one of them before."""
        open_closed()
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
            from defsurvey.jobs.cli.exits import exit_code, in_words

            code = exit_code(error)
            if code is None:
                raise
            click.echo(f"defsurvey: {in_words(error, ctx.obj)}", err=True)
            ctx.exit(code)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="defsurvey")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Language models answer surveys as simulated citizens; a report compares them with what people answered."""
    # The interpreter's last search for cycles finds nothing that matters: half a second where a report was built.
    atexit.register(gc.freeze)
    _escape_what_cannot_be_shown()
    ctx.obj = Settings.from_environment(os.environ)


for _module in (runs, results, judging, surveys, models, daemons):
    for _verb in _module.VERBS:
        main.add_command(_verb)


def open_closed() -> None:
    """Have streams that were closed before the program began (``>&-``) lead to nothing: to write there is no error.

    Before any file is opened: that would have the stream's number, and take in what a process of ours prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, "r" if number == 0 else "w", encoding="utf-8"))


def _escape_what_cannot_be_shown() -> None:
    r"""From now on stdout and stderr take every text: characters that they cannot show are escaped as in JSON.

    Not as Python does it by ``backslashreplace``: ``\xe9`` and ``\U0001f600`` are no JSON, and what programs read is
    written to the same streams.
    """
    codecs.register_error(_ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put another in its place
            stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


if __name__ == "__main__":
    main()
