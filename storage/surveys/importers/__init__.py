"""From files that researchers hold to a survey: one source format per module, written by ``storage.surveys.write``."""
