"""Surveys: what they are, how folders hold them, and how they are imported."""
