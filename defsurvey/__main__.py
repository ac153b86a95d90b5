"""The command line, as `python -m defsurvey`."""

from defsurvey.jobs.cli.main import main

main()
