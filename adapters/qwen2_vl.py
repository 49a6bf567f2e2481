"""Qwen2-VL and Qwen2.5-VL: frames of any size, joined in pairs, at positions of three axes.

A token of a video has the time, the row and the column of what it shows as its position, and text
goes on behind the largest of them. So positions are not the number of tokens before, and the
difference has to go on with a cache, whatever was evicted from it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from transfer.adapters.preprocessing import CLIP_COLOURS, Preprocessing, entries, whole_number
from transfer.adapters.video_adapter import Layout, VideoAdapter, Word
from transfer.errors import UserError

#: The part of `max_video_tokens` that frames share.
_SHARE = 0.9
#: The processor refuses longer pictures.
_MOST_ASPECT = 200


@dataclass(frozen=True)
class QwenPreprocessing(Preprocessing):
    """Frames keep their shape, and get as many pixels as a budget allows.

    Args:
        least, most: pixels of a frame.
        factor: what height and width are made multiples of.
        shared: tokens that all frames of a video share; None: each frame has its budget alone.
        joined: frames that make one time.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        **CLIP_COLOURS,
        "do_center_crop": False,
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "max_video_tokens": 128_000,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
    }
    least: int
    most: int
    factor: int
    shared: int | None
    joined: int

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The fields; older files say pixels under names of their own."""
        patch, merge, joined = (
            whole_number(name, settings[name])
            for name in ("patch_size", "merge_size", "temporal_patch_size")
        )
        size = {"shortest_edge": None, "longest_edge": None, **entries("size", settings["size"])}
        least = settings.get("min_pixels") or size["shortest_edge"]
        most = settings.get("max_pixels") or size["longest_edge"]
        tokens = whole_number("max_video_tokens", settings["max_video_tokens"])
        return {
            # Resizing to no fixed size.
            **super().read({**settings, "size": 1}),
            "least": whole_number("size.shortest_edge", least),
            "most": whole_number("size.longest_edge", most),
            "factor": patch * merge,
            "shared": tokens if settings.get("cap_pixels_per_frame") else None,
            "joined": joined,
        }

    @property
    def made(self) -> None:
        """Of every size."""
        return None

    def sizes(self, frames: int, height: int, width: int) -> Iterator[tuple[int, int]]:
        """The height and width that keep the shape and the budget."""
        if self.size is None:
            return
        if max(height, width) > _MOST_ASPECT * min(height, width):
            raise UserError(
                f"frames of {height} x {width} are longer than {_MOST_ASPECT} times their other"
                " side, which the processor refuses; cut them"
            )
        most = self._most(frames)
        sides = [round(side / self.factor) * self.factor for side in (height, width)]
        if math.prod(sides) > most:
            scale = math.sqrt(height * width / most)
            sides = [max(1, math.floor(s / scale / self.factor)) for s in (height, width)]
            sides = [side * self.factor for side in sides]
        elif math.prod(sides) < self.least:
            scale = math.sqrt(self.least / (height * width))
            sides = [math.ceil(s * scale / self.factor) * self.factor for s in (height, width)]
        yield sides[0], sides[1]

    def _most(self, frames: int) -> int:
        if self.shared is None:
            return self.most
        pixels = int(self.shared * self.factor**2 * _SHARE) * self.joined // frames
        return max(min(self.most, pixels), int(self.least * 1.05))


class Qwen2VLAdapter(VideoAdapter):
    """`Qwen2VLForConditionalGeneration` and `Qwen2_5_VLForConditionalGeneration`."""

    preprocessing = QwenPreprocessing
    frames_say_all = False

    @property
    def _joined(self) -> int:
        """Frames of one time."""
        return self.model.config.vision_config.temporal_patch_size

    @property
    def _patch(self) -> int:
        return self.model.config.vision_config.patch_size

    @property
    def _merged(self) -> int:
        """Patches of a row that make one token."""
        return self.model.config.vision_config.spatial_merge_size

    @property
    def probe_size(self) -> tuple[int, int]:
        """Two rows and three columns of tokens."""
        return 2 * self._merged * self._patch, 3 * self._merged * self._patch

    def grid(self, frames: int, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Times, rows and columns of tokens, as many as the frames' size asks."""
        if size is None:
            raise UserError(
                f"a video of {self.model.config.model_type} takes as many tokens as its frames are"
                " large; make the prompt for its features, not for a number of frames"
            )
        side = self._patch * self._merged
        rows, columns = (edge // side for edge in size)
        if (rows * side, columns * side) != tuple(size):
            raise UserError(
                f"frames of {size[0]} x {size[1]} cannot be cut into {side} x {side} pixels;"
                " set do_resize in the processor's files"
            )
        return math.ceil(frames / self._joined), rows, columns

    def check_processor(self, source: str, preprocessing: Preprocessing) -> None:
        """Raise `UserError` for files of a processor that cuts frames otherwise."""
        assert isinstance(preprocessing, QwenPreprocessing)
        found = preprocessing.factor, preprocessing.joined
        if found != (self._patch * self._merged, self._joined):
            raise UserError(
                f"{source} has a processor whose tokens show {found[0]} pixels and {found[1]}"
                f" frames, and a vision tower for {self._patch * self._merged} and {self._joined};"
                " save the model's own processor there"
            )

    def placeholder(self, word: Word) -> str:
        """What the chat template writes for a video."""
        return self._around(word(self.video_token), word)

    def apart(self, layout: Layout, word: Word) -> list[str]:
        """How a prompt writes each frame: joined ones are a video where the first of them stands.

        So a text between two frames that are joined comes behind both.
        """
        _, rows, columns = layout.grid
        video = self._around(word(self.video_token) * (rows * columns), word)
        return [video if frame % self._joined == 0 else "" for frame in range(layout.frames)]

    def whole(self, layout: Layout, word: Word) -> str:
        """How a prompt writes the video."""
        return self._around(word(self.video_token) * math.prod(layout.grid), word)

    def _around(self, video: str, word: Word) -> str:
        config = self.model.config
        return word(config.vision_start_token_id) + video + word(config.vision_end_token_id)

    def features(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What the vision tower makes of some frames."""
        return torch.stack([self._of_one(video) for video in pixels])

    def _of_one(
        self, pixels: Float[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "tokens hidden"]:
        model: Any = self.model
        frames, _, height, width = pixels.shape
        times, rows, columns = self.grid(frames, (height, width))
        last = pixels[-1:].expand(times * self._joined - frames, -1, -1, -1)
        # Patches of a token one after the other, and of each its frames.
        blocks = torch.cat([pixels, last]).view(
            times, self._joined, 3, *(rows, self._merged, self._patch), columns, self._merged, -1
        )
        patches = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).flatten(0, 4).flatten(1)
        grid = [[times, rows * self._merged, columns * self._merged]]
        sizes = torch.tensor(grid, device=model.device)
        return model.get_video_features(patches, sizes, return_dict=True).pooler_output[0]

    def position_ids(
        self, ids: Int[Tensor, "batch tokens"], layout: Layout | None
    ) -> Int[Tensor, "3 batch tokens"]:
        """Time, row and column of every token, from 0 on, as the model's own code counts them."""
        if layout is None:
            return torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
        model: Any = self.model
        kinds = 2 * self.is_video(ids).int()
        found, tokens = kinds[0].unique_consecutive(return_counts=True)
        _, rows, columns = layout.grid
        # A text between frames makes several videos of one.
        grids = [
            [count // (rows * columns), rows * self._merged, columns * self._merged]
            for count in tokens[found == 2].tolist()
        ]
        return model.model.get_rope_index(
            ids,
            mm_token_type_ids=kinds,
            video_grid_thw=torch.tensor(grids * len(ids), device=ids.device),
            second_per_grid_ts=torch.tensor([self._seconds(layout)] * len(grids) * len(ids)),
        )[0]

    def outputs(
        self, inputs: Mapping[str, Any], cache: Cache | None
    ) -> Float[Tensor, "batch tokens ..."]:
        """What the model says of each token.

        Behind the first tokens it counts those of a mask that came before too, unless it is told
        positions, as its `generate` does.
        """
        mask, model = inputs.get("attention_mask"), self.model
        seen = 0 if cache is None else cache.get_seq_length()
        if seen and mask is not None and "position_ids" not in inputs:
            counted = (mask.long().cumsum(-1) - 1).clamp(0)[:, seen:]
            ahead: Any = model.model.rope_deltas
            inputs = {**inputs, "position_ids": counted + ahead}
        return super().outputs(inputs, cache)

    def _seconds(self, layout: Layout) -> float:
        """Between two times; where nobody knows, one, as the model's code takes it."""
        if len(layout.seconds) < 2:
            return 1.0
        between = (layout.seconds[-1] - layout.seconds[0]) / (layout.frames - 1)
        # Times are cut to whole positions, which the rounding of a file's times must not change.
        return round(between * self._joined, 6)
