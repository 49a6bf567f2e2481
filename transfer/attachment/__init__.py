"""A policy laid on a model: `attach`, what the cache then holds, and the check that it is exact."""
