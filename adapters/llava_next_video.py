"""LLaVA-NeXT-Video: a vision tower whose frames become tokens of a Llama or Mistral."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from transfer.adapters.video_adapter import VideoAdapter, Word
from transfer.errors import UserError


class LlavaNextVideoAdapter(VideoAdapter):
    """`LlavaNextVideoForConditionalGeneration`."""

    def refuse(self) -> None:
        """Raise `UserError` if video tokens could not be counted as the official processor does."""
        super().refuse()
        config = self.model.config
        if config.vision_feature_select_strategy != "default":
            raise UserError(
                f"vision_feature_select_strategy is {config.vision_feature_select_strategy!r};"
                " videos need 'default', without the class token"
            )
        self.grid(1)

    def grid(self, frames: int, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Times, rows and columns of tokens: frames of one size, pooled."""
        side = self.side(self.model.config.spatial_pool_stride)
        return frames, side, side

    def placeholder(self, word: Word) -> str:
        """Nothing: its templates write a video and a line's end, as the tasks' prompts do."""
        return ""

    def features(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What the vision tower makes of some frames."""
        model: Any = self.model
        return model.get_video_features(pixels, return_dict=True).pooler_output
