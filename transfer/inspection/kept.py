"""One video through a pruned cache, and which of its patches are left then."""

import math
import sys

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from transfer.adapters.preprocessing import Preprocessing
from transfer.adapters.video_model import VideoModel, load_video_model, unknown_words_said
from transfer.arguments import typed
from transfer.attachment.memory import Memory
from transfer.cache.cache import PrunedCache
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.options import ContenderOptions
from transfer.evaluation.video_held import held
from transfer.files import replacing
from transfer.inspection.config import InspectConfig
from transfer.inspection.pictures import draw_kept, kept_per_frame
from transfer.progress import waiting
from transfer.tasks.video_records import VIDEO, Prompt
from transfer.video.frames import read_clip

_FRAMES, _REPLY_TOKENS = 32, 32


@typed
def keep_video(config: InspectConfig) -> str:
    """Let a policy see the video, draw what it keeps, and say it in a few lines.

    Raises:
        UserError: the video, the model or the policy cannot be had, or Pillow is not installed.
    """
    contender = _contender(config)
    assert contender.pruning is not None
    clip = read_clip(config.video, config.frames or _FRAMES, stream=config.stream)
    for note in clip.notes:
        print(note, file=sys.stderr)
    model: VideoModel = load_video_model(
        config.model, trust_remote_code=config.trust_remote_code, **config.place.settings
    )
    asked = (VIDEO, f"\n{config.question}") if config.question else (VIDEO,)
    with waiting("encoding the video"):
        features = model.encode(clip)
    ids = model.prompt_ids(Prompt(asked, answers=("yes", "no")), features)
    if words := model.unknown_words(config.question or ""):
        print(unknown_words_said(words), file=sys.stderr)
    with waiting("looking at the video"), Memory(model.adapter, contender.pruning) as memory:
        cache = memory.new_cache()
        logits = model.prefill(ids, features, cache)
        is_video = model.is_video(ids)[0]
        kept, holds = kept_patches(cache, is_video, features.layout.grid), held(cache, is_video)
        reply = model.generate(logits, cache, _REPLY_TOKENS) if config.question else None
    times, rows, columns = features.layout.grid
    # Of the frames that a token stands for, the first is shown.
    step = -(-features.frames // times)
    shown = seen(model.preprocessing, clip.pixels)[::step]
    picture = draw_kept(shown, clip.seconds[::step], kept)
    with replacing(config.out) as partial:
        picture.save(partial)
    text = holds["tokens"] - holds["video_tokens"]
    lines = [
        f"{config.out}: {contender.name} keeps {holds['kept_video_tokens']:.1f} of "
        f"{holds['video_tokens']} video tokens and {holds['kept_text_tokens']:.1f} of {text} others"
        " in a layer and head",
        f"mean kept of the {rows * columns} of each frame: "
        + " ".join(f"{mean:.1f}" for mean in kept_per_frame(kept)),
        *([] if reply is None else [f"reply: {reply}"]),
    ]
    return "\n".join(lines)


def _contender(config: InspectConfig) -> Contender:
    options = ContenderOptions(
        policy=(config.policy,),
        namm=(config.namm,),
        budget=(config.budget,),
        update_interval=config.update_interval,
        eviction=config.eviction,
    )
    [contender] = plan(options) or [full(config.update_interval)]
    return contender


def kept_patches(
    cache: PrunedCache, is_video: Bool[Tensor, " tokens"], grid: tuple[int, int, int]
) -> Bool[np.ndarray, "layers heads times rows columns"]:
    """Whether each layer and head still holds the token of each patch of each time.

    Args:
        cache: of one sequence, after its prompt.
        is_video: which tokens of the prompt are the video's, time by time and row by row; more of
            them than the grid has show no patch, and come last.
        grid: times, rows and columns.
    """
    kept = [[_mask(row, len(is_video)) for row in layer.positions()] for layer in cache.pruned]
    video = torch.stack([torch.stack(heads) for heads in kept])[..., is_video.cpu()].numpy()
    return video[..., : math.prod(grid)].reshape(*video.shape[:2], *grid)


def _mask(positions: Tensor, tokens: int) -> Bool[Tensor, " tokens"]:
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[positions.cpu().long()] = True
    return mask


def seen(
    preprocessing: Preprocessing, pixels: UInt8[np.ndarray, "frames height width 3"]
) -> UInt8[np.ndarray, "frames new_height new_width 3"]:
    """Frames as the vision tower sees them: resized and cropped, but in colours for the eye."""
    mean, std = (np.array(each) for each in (preprocessing.mean, preprocessing.std))
    normal = preprocessing(pixels)[0].permute(0, 2, 3, 1).numpy()
    colours = (normal * std + mean) / preprocessing.scale
    return np.rint(colours).clip(0, 255).astype(np.uint8)
