"""How one step is computed on a CPU."""
