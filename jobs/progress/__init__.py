"""How far a run has come, counted, shown and followed."""
