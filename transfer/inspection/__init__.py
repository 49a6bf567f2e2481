"""Pictures of what a pruned cache keeps: of a video, and of an episode."""
