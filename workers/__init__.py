"""workers computes: participants answer, engines generate."""
