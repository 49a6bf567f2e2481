"""`transfer inspect video|language|control|cues`: what a policy keeps; the model says the kind."""

from collections.abc import Sequence

from transfer.adapters.kinds import kind_of
from transfer.cli.eval_command import option
from transfer.errors import unknown_name
from transfer.inspection.config import (
    InspectConfig,
    InspectControl,
    InspectCues,
    InspectLanguage,
)

CONFIG = {
    "video": InspectConfig,
    "language": InspectLanguage,
    "control": InspectControl,
    "cues": InspectCues,
}


def with_kind(words: Sequence[str]) -> list[str]:
    """The words with the kind put in, where it was left out and a video or a model was named.

    Raises:
        UserError: no such kind, or no such model.
    """
    if not words or words[0] in CONFIG or {"-h", "--help"} & set(words):
        return list(words)
    if not words[0].startswith("-"):
        raise unknown_name("kind of picture", words[0], CONFIG)
    model = option(words, "--model")
    if option(words, "--video") is not None or not model:
        return ["video", *words]
    return [kind_of(model), *words]


def run(config: InspectConfig | InspectLanguage | InspectControl | InspectCues) -> int:
    """Draw the picture and say what it shows, or print the table."""
    if isinstance(config, InspectLanguage):
        from transfer.inspection.text import keep_text

        print(keep_text(config))
        return 0
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
