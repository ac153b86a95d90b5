"""From the files that researchers hold to a survey: one source format per module, one way to write (``storage.survey_write``)."""
