"""workers computes: participants answer, engines generate."""

#: The user's own model cards, where they lie in the working folder or beside a study.
OWN_CARDS = "models.toml"
