"""The command line: verbs by subject, their options, and the status with which each ends."""
