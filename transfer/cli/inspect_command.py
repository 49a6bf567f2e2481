"""`transfer inspect video|control|cues`: what a policy keeps; the first two may be left out."""

from collections.abc import Sequence

from transfer.adapters.kinds import CONTROL, kind_of
from transfer.cli.eval_command import option
from transfer.errors import UserError, unknown_name
from transfer.inspection.config import InspectConfig, InspectControl, InspectCues

CONFIG = {"video": InspectConfig, "control": InspectControl, "cues": InspectCues}


def with_kind(words: Sequence[str]) -> list[str]:
    """The words with the kind put in, where it was left out and a video or a model was named.

    Raises:
        UserError: no such kind, or nothing of it can be drawn.
    """
    if not words or words[0] in CONFIG or {"-h", "--help"} & set(words):
        return list(words)
    if not words[0].startswith("-"):
        raise unknown_name("kind of picture", words[0], CONFIG)
    model = option(words, "--model")
    if option(words, "--video") is not None or not model:
        return ["video", *words]
    kind = kind_of(model)
    if kind not in CONFIG:
        raise UserError(
            f"model {model} is a {kind} model, and pictures are of video and control; name one of "
            f"these, such as {CONTROL}"
        )
    return [kind, *words]


def run(config: InspectConfig | InspectControl | InspectCues) -> int:
    """Draw the picture and say what it shows, or print the table."""
    if isinstance(config, InspectCues):
        from transfer.cli.eval_command import print_table
        from transfer.inspection.cues import cues_told

        print_table(cues_told(config))
        return 0
    if isinstance(config, InspectControl):
        from transfer.inspection.steps import keep_steps

        print(keep_steps(config))
        return 0
    from transfer.inspection.kept import keep_video

    print(keep_video(config))
    return 0
