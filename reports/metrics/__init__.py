"""Metrics: pure functions, arrays in, results out."""
