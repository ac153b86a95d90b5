"""The study: what a user asks for, checked, looked at beforehand, and made a run."""
