"""jobs decides: what to run, in what order, and what is missing."""
