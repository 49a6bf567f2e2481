"""LLaVA-NeXT-Video: a vision tower whose frames become tokens of a Llama or Mistral."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.attachment.adapter import Adapter, probe_generator
from transfer.errors import UserError

#: Frames that go through the vision tower at once; bounds its memory.
_FRAMES_AT_ONCE = 16


class LlavaNextVideoAdapter(Adapter):
    """`LlavaNextVideoForConditionalGeneration`: its text model is pruned, its vision tower not."""

    def refuse(self) -> None:
        """Raise `UserError` if video tokens could not be counted as the official processor does."""
        super().refuse()
        config = self.model.config
        if config.vision_feature_select_strategy != "default":
            raise UserError(
                f"vision_feature_select_strategy is {config.vision_feature_select_strategy!r};"
                " videos need 'default', without the class token"
            )
        if self._grid % config.spatial_pool_stride:
            raise UserError(
                f"the vision tower has {self._grid} x {self._grid} patches, which cannot be pooled "
                f"by {config.spatial_pool_stride}; change image_size or patch_size"
            )

    @property
    def _grid(self) -> int:
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    @property
    def tokens_per_frame(self) -> int:
        """Text tokens that stand for one frame."""
        return (self._grid // self.model.config.spatial_pool_stride) ** 2

    @property
    def positions(self) -> int:
        """Tokens the text model can tell apart by position, scaled rotary embeddings included."""
        config = self.config
        rope = getattr(config, "rope_parameters", None) or {}
        # The other kinds of scaling give the scaled length as max_position_embeddings.
        scale = rope.get("factor", 1.0) if rope.get("rope_type") in ("linear", "dynamic") else 1.0
        return int(config.max_position_embeddings * scale)

    def is_video(self, ids: Int[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
        """Which tokens stand for frames."""
        return ids == self.model.config.video_token_index

    @torch.no_grad()
    def encode(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Frames as the text model sees them, `tokens_per_frame` tokens each."""
        model: Any = self.model
        pixels = pixels.to(model.device, model.dtype)
        parts = pixels.split(_FRAMES_AT_ONCE, 1)
        outputs = [model.get_video_features(part, return_dict=True) for part in parts]
        return torch.cat([output.pooler_output for output in outputs], 1)

    @torch.no_grad()
    def embed(
        self,
        ids: Int[Tensor, "batch tokens"],
        features: Float[Tensor, "batch video_tokens hidden"] | None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Embeddings of a prompt, with the frames in the places of its video tokens.

        Raises:
            UserError: the prompt has another number of video tokens than the frames.
        """
        embeddings = self.model.get_input_embeddings()(ids)
        places = self.is_video(ids)
        found = 0 if features is None else features.shape[0] * features.shape[1]
        if int(places.sum()) != found:
            raise UserError(
                f"the prompt has {int(places.sum())} video tokens and the video {found};"
                " make the prompt for as many frames as were encoded"
            )
        if features is None:
            return embeddings
        return embeddings.masked_scatter(places[..., None], features.to(embeddings))

    def probe(self, batch: int, tokens: int) -> dict[str, Any]:
        """Random frames between random token ids, or ids alone if no frame fits."""
        ids = super().probe(batch, tokens)["input_ids"]
        frames = min(8, (tokens - 8) // self.tokens_per_frame)
        if frames <= 0:
            return {"input_ids": ids}
        size = self.model.config.vision_config.image_size
        generator = probe_generator(batch, tokens)
        pixels = torch.randn(batch, frames, 3, size, size, generator=generator)
        ids[:, 4 : 4 + frames * self.tokens_per_frame] = self.model.config.video_token_index
        return {"inputs_embeds": self.embed(ids, self.encode(pixels))}
