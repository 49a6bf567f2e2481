"""Which frames of a video are looked at: positions among its frames, in order."""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from transfer.errors import UserError, unknown_name


def uniform(total: int, frames: int) -> list[int]:
    """Evenly spread, the first and the last frame included."""
    return np.linspace(0, total - 1, frames, dtype=int).tolist()


def midpoint(total: int, frames: int) -> list[int]:
    """The centres of equal segments."""
    return [(2 * i + 1) * total // (2 * frames) for i in range(frames)]


def segment(total: int, frames: int) -> list[int]:
    """The beginnings of segments of a whole number of frames (LongVideoBench)."""
    return [total // frames * i for i in range(frames)]


_MOST_TICKS = 10**7
#: How a number of frames is picked; `fps` picks by time instead.
SAMPLINGS: dict[str, Callable[[int, int], list[int]]] = {
    "uniform": uniform,
    "midpoint": midpoint,
    "segment": segment,
}


def check_sampling(frames: int | None, sampling: str, fps: int | float | None) -> None:
    """Refuse what no video could satisfy.

    Raises:
        UserError: unknown sampling, no number of frames, or a rate without the sampling `fps`.
    """
    if sampling not in SAMPLINGS and sampling != "fps":
        raise unknown_name("sampling", sampling, [*SAMPLINGS, "fps"])
    if (fps is not None) != (sampling == "fps"):
        raise UserError(f"sampling {sampling} and fps {fps}: give fps with sampling fps, only then")
    if fps is not None and not 0 < fps < float("inf"):
        raise UserError(f"fps is {fps}; it must be positive")
    if frames is None and sampling != "fps":
        raise UserError(f"sampling {sampling} needs a number of frames; give frames")
    if frames is not None and frames < 1:
        raise UserError(f"frames is {frames}; it must be at least 1")


def pick(
    seconds: Sequence[float], frames: int | None, sampling: str, fps: int | float | None
) -> list[int]:
    """Positions in `seconds`, the times of the frames one may pick from, oldest first.

    With `fps`, the frames on display at regular times; when they are more than `frames`, that many
    of them, evenly spread.
    """
    if fps is None:
        assert frames is not None
        return SAMPLINGS[sampling](len(seconds), frames)
    if (seconds[-1] - seconds[0]) * fps > _MOST_TICKS:
        raise UserError(
            f"a video of {seconds[-1] - seconds[0]:g} s at {fps:g} frames a second is more than "
            f"{_MOST_TICKS:,} frames; use a smaller fps"
        )
    # A time between two frames shows the earlier one; 1e-6: rounding must not show the one before.
    ticks = np.arange(seconds[0], seconds[-1] + 1e-6, 1 / fps)
    shown = sorted({bisect_right(seconds, tick + 1e-6) - 1 for tick in ticks.tolist()})
    if frames is None or len(shown) <= frames:
        return shown
    return [shown[i] for i in uniform(len(shown), frames)]
