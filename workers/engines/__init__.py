"""Engines: from a prompt to a completion, one small class each."""
