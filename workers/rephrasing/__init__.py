"""Other wordings of questions: asked of a model, checked, kept with the reason where they are rejected."""
