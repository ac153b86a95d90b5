"""What a model knows of a survey itself: asked apart from any interview."""
