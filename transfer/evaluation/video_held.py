"""What a cache holds of the video and of the text around it, in tokens and in bytes."""

from statistics import fmean

from jaxtyping import Bool
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from transfer.cache.cache import PrunedCache
from transfer.evaluation.benchmark import Row
from transfer.evaluation.held import over_time


def held(cache: Cache, is_video: Bool[Tensor, " tokens"]) -> Row:
    """Tokens of a layer and head and bytes of all, after the prompt went through.

    Bytes of video and text are those of keys, values, positions and policy state of their tokens;
    `cache_bytes` is everything, the queries of the window and free slots included.

    Args:
        cache: of one sequence, stock or pruned.
        is_video: which tokens of the prompt are the video's.
    """
    video = int(is_video.sum())
    seen = {"tokens": len(is_video), "video_tokens": video}
    if not isinstance(cache, PrunedCache):
        return {**seen, **_stock(cache, len(is_video), video)}
    return {**seen, **_pruned(cache, is_video)}


def _stock(cache: Cache, tokens: int, video: int) -> Row:
    layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    stored = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
    total = sum(tensor.nbytes for tensor in stored if tensor is not None)
    return {
        "kept_tokens": float(tokens),
        # As if token by token, like what is measured of pruned caches.
        "held_mean": (tokens + 1) / 2,
        "held_peak": float(tokens),
        "bytes_mean": total * (tokens + 1) / (2 * tokens),
        "kept_video_tokens": float(video),
        "kept_text_tokens": float(tokens - video),
        "video_bytes": total * video // tokens,
        "text_bytes": total - total * video // tokens,
        "cache_bytes": total,
        "peak_bytes": total,
        "full_bytes": total,
        "policy_seconds": 0.0,
    }


def _pruned(cache: PrunedCache, is_video: Bool[Tensor, " tokens"]) -> Row:
    video_counts: list[int] = []
    counts: list[int] = []
    video_bytes = text_bytes = 0
    for layer in cache.pruned:
        assert layer.store is not None
        store = layer.store
        each = sum(buffer[:1].nbytes for buffer in (store.keys, store.values, store.positions))
        state = store.state
        for positions, observed in zip(layer.positions(), store.observed):
            here = is_video[positions.to(is_video.device)]
            counts.append(len(here))
            video_counts.append(int(here.sum()))
            # The oldest tokens of a head have a state, the newest not yet.
            states = int(here[:observed].sum()), observed - int(here[:observed].sum())
            video_bytes += each * video_counts[-1] + state[:1].nbytes * states[0]
            text_bytes += each * (counts[-1] - video_counts[-1]) + state[:1].nbytes * states[1]
    return {
        "kept_tokens": fmean(counts),
        **over_time(cache),
        "kept_video_tokens": fmean(video_counts),
        "kept_text_tokens": fmean(counts) - fmean(video_counts),
        "video_bytes": video_bytes,
        "text_bytes": text_bytes,
        "cache_bytes": cache.bytes(),
        "peak_bytes": cache.peak_bytes(),
        "full_bytes": cache.full_bytes(),
        "policy_seconds": cache.policy_seconds(),
    }
