"""Ways of asking: one module for each."""
