"""One model in one culture, measured, beside the other models of that culture."""
