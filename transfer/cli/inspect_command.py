"""`transfer inspect`: what a policy keeps of one video, drawn over its frames."""

from transfer.inspection.config import InspectConfig

CONFIG = InspectConfig


def run(config: InspectConfig) -> int:
    """Draw the picture and say what it shows."""
    from transfer.inspection.kept import keep_video

    print(keep_video(config))
    return 0
