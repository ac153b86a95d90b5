"""Computes a step on a GPU: what all beams compute is one program, which is captured once and then replayed."""
