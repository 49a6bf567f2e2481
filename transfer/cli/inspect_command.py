"""`transfer inspect`: what a policy keeps of one video, drawn over its frames."""

from transfer.evaluation.video_inspect import InspectConfig

CONFIG = InspectConfig


def run(config: InspectConfig) -> int:
    """Draw the picture and say what it shows."""
    from transfer.evaluation.video_kept import keep_video

    print(keep_video(config))
    return 0
