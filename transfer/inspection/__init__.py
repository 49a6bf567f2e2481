"""Pictures of what a pruned cache keeps of a video."""
