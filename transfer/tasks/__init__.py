"""What is asked of a language model. Knows no model and no policy."""
