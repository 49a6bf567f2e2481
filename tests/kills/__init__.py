"""Every long command, killed at random moments and taken up again: `python -m tests.kills`."""
