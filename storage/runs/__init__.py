"""Runs: their tables, the ledger of participants, and what came out."""
