"""What the adapters of video models share: how frames become tokens, and where those stand.

A video is a grid of tokens: times, and rows and columns of each time. A family says how large the
grid is, what a prompt writes around it, and which positions its tokens have; the rest is the same.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from transfer.adapters.preprocessing import Preprocessing
from transfer.attachment.adapter import Adapter, probe_generator
from transfer.errors import UserError

#: Frames that go through the vision tower at once; bounds its memory. Even, as some towers join
#: two frames.
_FRAMES_AT_ONCE = 16
#: Frames of a probe, and the place of their first token.
_PROBED, _PLACE = 8, 4


@dataclass(frozen=True)
class Layout:
    """How a video lies in a prompt.

    Attributes:
        frames: of the video.
        grid: times, and rows and columns of tokens of each. A token may stand for several frames.
        seconds: when each frame is shown; empty: nobody knows.
        duration: of the video in seconds.
    """

    frames: int
    grid: tuple[int, int, int]
    seconds: tuple[float, ...] = ()
    duration: float = 0.0


#: From a token's number to how it is written.
Word = Callable[[int], str]


class VideoAdapter(Adapter):
    """A model whose text model is pruned and whose vision tower is not."""

    #: How its processor prepares frames.
    preprocessing: ClassVar[type[Preprocessing]] = Preprocessing
    #: What its processor puts around questions, whatever the checkpoint's files say.
    chat_template: ClassVar[str | None] = None
    #: Whether a prompt has to know no more of a video than how many frames it has.
    frames_say_all: ClassVar[bool] = True

    @abstractmethod
    def grid(self, frames: int, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Times, rows and columns of tokens.

        Args:
            frames: of the video.
            size: height and width of the prepared frames; None: as the vision tower's.

        Raises:
            UserError: the size is needed, or it cannot be cut into patches.
        """

    @abstractmethod
    def features(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What the vision tower makes of some frames."""

    def check_processor(self, source: str, preprocessing: Preprocessing) -> None:
        """Refuse the files of a processor that belongs to another vision tower.

        Args:
            source: of the files.
            preprocessing: as they say it.

        Raises:
            UserError: it does.
        """
        side, made = self.model.config.vision_config.image_size, preprocessing.made
        if made not in ((side, side), None):
            raise UserError(
                f"{source} has a processor that makes frames of {made} pixels and a vision tower"
                f" for {side} x {side}; save the model's own processor there"
            )

    def side(self, by: int) -> int:
        """Tokens in a row of a frame, whose patches are joined `by` x `by`.

        Raises:
            UserError: that leaves some over.
        """
        vision = self.model.config.vision_config
        patches = vision.image_size // vision.patch_size
        if patches % by:
            raise UserError(
                f"the vision tower has {patches} x {patches} patches, which cannot be joined by "
                f"{by}; change image_size or patch_size"
            )
        return patches // by

    @property
    def probe_size(self) -> tuple[int, int]:
        """Height and width of frames that are made up."""
        side = self.model.config.vision_config.image_size
        return side, side

    @property
    def video_token(self) -> int:
        """The token that stands for frames."""
        return self.model.config.video_token_id

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
        return ids == self.video_token

    def placeholder(self, word: Word) -> str:
        """What the chat template writes for a video; empty: nothing that is to be used."""
        return word(self.video_token)

    def apart(self, layout: Layout, word: Word) -> list[str]:
        """How a prompt writes each frame where text stands between them."""
        _, rows, columns = layout.grid
        return [word(self.video_token) * (rows * columns)] * layout.frames

    def whole(self, layout: Layout, word: Word) -> str:
        """How a prompt writes the video as one."""
        return "".join(self.apart(layout, word))

    @torch.no_grad()
    def encode(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Frames as the text model sees them."""
        return torch.cat(self._parts(pixels), 1)

    def _parts(self, pixels: Tensor) -> list[Tensor]:
        pixels = pixels.to(self.model.device, self.model.dtype)
        return [self.features(part) for part in pixels.split(_FRAMES_AT_ONCE, 1)]

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

    def position_ids(
        self, ids: Int[Tensor, "batch tokens"], layout: Layout | None
    ) -> Int[Tensor, "axes batch tokens"] | None:
        """Positions of a prompt's tokens from 0 on; None: they are counted, as those of text."""
        return None

    def inputs(
        self,
        ids: Int[Tensor, "batch tokens"],
        features: Float[Tensor, "batch video_tokens hidden"] | None,
        layout: Layout | None,
        cache: Cache | None = None,
    ) -> dict[str, Tensor]:
        """A prompt as keyword arguments of the model.

        Args:
            ids: of the prompt.
            features: in the places of its video tokens.
            layout: of the features.
            cache: that it is to be read into, behind what is there.

        Raises:
            UserError: as `embed` and `following`.
        """
        inputs = {"inputs_embeds": self.embed(ids, features)}
        return self._placed(inputs, self.position_ids(ids, layout), cache)

    def following(self, ids: Int[Tensor, "batch tokens"], cache: Cache | None) -> dict[str, Tensor]:
        """Text behind what is in a cache as keyword arguments of the model.

        Raises:
            UserError: positions are the model's own, and `inputs` did not fill the cache.
        """
        return self._placed({"input_ids": ids}, self.position_ids(ids, None), cache)

    def _placed(
        self, inputs: dict[str, Tensor], positions: Tensor | None, cache: Cache | None
    ) -> dict[str, Tensor]:
        """Inputs with positions behind those in a cache, which remembers how far they are ahead."""
        if positions is None:
            return inputs
        held: Any = cache
        seen = 0 if cache is None else cache.get_seq_length()
        if seen and not hasattr(cache, "transfer_ahead"):
            raise UserError(
                f"positions of {self.model.config.model_type} are no numbers of tokens, and"
                " this cache does not say them; fill it with `prefill`"
            )
        placed = positions + (seen + held.transfer_ahead if seen else 0)
        if cache is not None:
            held.transfer_ahead = int(placed.max()) + 1 - seen - placed.shape[-1]
        return {**inputs, "position_ids": placed}

    def probe(self, batch: int, tokens: int) -> dict[str, Any]:
        """Random frames between random token ids, or ids alone if no frame fits."""
        ids = super().probe(batch, tokens)["input_ids"]
        _, rows, columns = self.grid(_PROBED, self.probe_size)
        frames = min(_PROBED, (tokens - 2 * _PLACE) // (rows * columns))
        if frames <= 0:
            return {"input_ids": ids}
        generator = probe_generator(batch, tokens)
        features = self.encode(torch.randn(batch, frames, 3, *self.probe_size, generator=generator))
        ids[:, _PLACE : _PLACE + features.shape[1]] = self.video_token
        return self.inputs(ids, features, Layout(frames, self.grid(frames, self.probe_size)))
