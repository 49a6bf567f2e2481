"""Ask a question about your own video while a policy prunes the cache.

    python examples/video_qa.py MODEL video.mp4 "What happens?" [POLICY [BUDGET [FRAMES]]]

MODEL: llava-next-video (shipped), a folder, or a hub id such as llava-hf/LLaVA-NeXT-Video-7B-hf.
BUDGET: a share of the tokens, 0.25 by default, or so many; for POLICY full, which keeps all, None.
"""

import sys
from pathlib import Path

from transfer import NAMM, attach
from transfer.adapters.video_model import VIDEO, load_video_model, unknown_words_said
from transfer.arguments import literal
from transfer.errors import UserError
from transfer.tasks.video_records import Prompt
from transfer.video.frames import read_clip


def main(name, video, question, policy="namm", budget="0.25", frames="32"):
    """Answer as the command line asks."""
    model = load_video_model(name)
    clip = read_clip(Path(video), literal(frames))
    print(*(f"{note}\n" for note in clip.notes), sep="", end="", file=sys.stderr)
    if unknown := model.unknown_words(question):
        print(unknown_words_said(unknown), file=sys.stderr)
    features = model.encode(clip)
    ids = model.prompt_ids(Prompt((VIDEO, f"\n{question}"), answers=("yes", "no")), features)

    chosen = NAMM.from_pretrained("recall") if policy == "namm" else policy
    with attach(model.model, chosen, update_interval=64, budget=literal(budget)) as memory:
        cache = memory.new_cache()
        print(model.generate(model.prefill(ids, features, cache), cache, most=100))
    print(memory.report())


if __name__ == "__main__":
    if not 3 <= len(sys.argv[1:]) <= 6:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
