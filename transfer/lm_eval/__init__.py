"""A language model with a pruned cache as a model of lm-evaluation-harness (extra `lm-eval`)."""
