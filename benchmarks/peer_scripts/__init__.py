"""Scripts that ask with other tools; each is run by the Python that has its tool, never imported."""
