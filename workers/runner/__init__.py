"""Carries participants through their leases: takes them from the queue, asks, checkpoints, gives them back."""
