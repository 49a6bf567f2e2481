"""LLaVA-OneVision: frames of a SigLIP become tokens of a Qwen2, and one more ends the video."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.adapters.preprocessing import CLIP_COLOURS, Preprocessing
from transfer.adapters.video_adapter import Layout, VideoAdapter, Word
from transfer.errors import UserError


@dataclass(frozen=True)
class OneVisionPreprocessing(Preprocessing):
    """As the base, with the settings that its processor has where files are silent."""

    defaults: ClassVar[Mapping[str, Any]] = {
        **CLIP_COLOURS,
        "do_center_crop": False,
        "size": {"height": 384, "width": 384},
    }


class LlavaOnevisionAdapter(VideoAdapter):
    """`LlavaOnevisionForConditionalGeneration`."""

    preprocessing = OneVisionPreprocessing

    def refuse(self) -> None:
        """Raise `UserError` if patches would be cut off that lie on a grid."""
        super().refuse()
        strategy = self.model.config.vision_feature_select_strategy
        if strategy != "full":
            raise UserError(
                f"vision_feature_select_strategy is {strategy!r}; videos of llava_onevision need"
                " 'full', as its vision tower has no class token"
            )

    def grid(self, frames: int, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Times, rows and columns of tokens: frames of one size, pooled by two."""
        vision = self.model.config.vision_config
        side = math.ceil(vision.image_size // vision.patch_size / 2)
        return frames, side, side

    def apart(self, layout: Layout, word: Word) -> list[str]:
        """How a prompt writes each frame; the token that ends the video goes with the last one."""
        *others, last = super().apart(layout, word)
        return [*others, last + word(self.video_token)]

    def features(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What the vision tower makes of some frames, and the token that ends a video."""
        model: Any = self.model
        return model.get_video_features(pixels, return_dict=True).pooler_output

    @torch.no_grad()
    def encode(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Frames as the text model sees them, and one token at the end."""
        parts = self._parts(pixels)
        return torch.cat([*(part[:, :-1] for part in parts), parts[-1][:, -1:]], 1)
