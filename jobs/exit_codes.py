"""With which status a process ends: what verbs promise to scripts, and what daemons tell whoever starts them again.

Which error ends with which of them is said in ``jobs.cli.exits``. A worker whose engine hangs ends with a status of its
own, ``workers.runner.watchdog.EXIT_HUNG``.
"""

#: Everything that was asked for is there.
DONE = 0
#: Something went wrong although the input was good.
ERROR = 1
#: Bad input: to start again will not help.
USAGE = 2
#: It has ended, and not everything that was asked for is there.
INCOMPLETE = 3
#: A person or a signal ended it (128 and the number of SIGINT, as shells count).
INTERRUPTED = 130
#: A worker cannot serve at all (sysexits' EX_UNAVAILABLE): to start it again will not help.
UNAVAILABLE = 69
