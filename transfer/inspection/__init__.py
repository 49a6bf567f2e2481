"""Pictures of what a pruned cache keeps: of a video, of an episode, and of a text."""
