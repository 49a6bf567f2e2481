"""Ask a question about your own video while a policy prunes the cache.

    python examples/video_qa.py MODEL video.mp4 "What happens?" [POLICY [BUDGET [FRAMES]]]

MODEL: llava-next-video (shipped), a folder, or a hub id such as llava-hf/LLaVA-NeXT-Video-7B-hf.
"""

import sys
from pathlib import Path

from transfer import NAMM, attach
from transfer.adapters.video_model import VIDEO, load_video_model
from transfer.tasks.video_records import Prompt
from transfer.video.frames import read_clip

name, video, question, *rest = sys.argv[1:]
policy, budget, frames = [*rest, *["namm", "0.25", "32"][len(rest) :]]

model = load_video_model(name)
clip = read_clip(Path(video), int(frames))
print(*clip.notes, sep="\n", end="\n" * bool(clip.notes))
features = model.encode(clip)
ids = model.prompt_ids(Prompt((VIDEO, f"\n{question}"), answers=("yes", "no")), features)

chosen = NAMM.from_pretrained("recall") if policy == "namm" else policy
with attach(model.model, chosen, update_interval=64, budget=float(budget)) as memory:
    cache = memory.new_cache()
    print(model.generate(model.prefill(ids, features, cache), cache, most=100))
print(memory.report())
