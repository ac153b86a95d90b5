"""Judging: a rubric, a calibration set, and models that say where answers fail."""
