"""storage remembers: surveys, runs, answers, leases."""
