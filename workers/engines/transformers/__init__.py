"""A model in this process, by Hugging Face transformers."""
