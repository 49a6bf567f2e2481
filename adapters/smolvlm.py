"""SmolVLM2: frames are pictures between texts that say when each of them is shown."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.models.smolvlm.processing_smolvlm import (
    DEFAULT_CHAT_TEMPLATE,
    DEFAULT_MEDIA_OUTTRO,
    DEFAULT_VIDEO_INTRO,
    FRAME_TIMESTAMP_MESSAGE,
)

from transfer.adapters.preprocessing import Preprocessing, entries, whole_number
from transfer.adapters.video_adapter import Layout, VideoAdapter, Word
from transfer.errors import UserError

#: Words around every picture, which the tokenizer has as one token each.
_AROUND, _GLOBAL = "<fake_token_around_image>", "<global-img>"
#: The processor makes no edge longer.
_LONGEST = 4096
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
_TENFOLD = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES, _TENS = _SMALL.split(), _TENFOLD.split()


@dataclass(frozen=True)
class SmolPreprocessing(Preprocessing):
    """The longer edge is made one length, and the frame then a square of another.

    Args:
        longest: pixels of the longer edge; None: straight to the square.
        square: height and width of what the vision tower sees.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "do_center_crop": False,
        "resample": 1,
        "max_image_size": {"longest_edge": 364},
        "video_sampling": {"video_size": {"longest_edge": 4 * 364}},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    longest: int | None
    square: int

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The fields; pictures' files say the size of videos apart, and their own counts more."""
        sampling = entries("video_sampling", settings["video_sampling"])
        size = entries("size", settings.get("size", sampling.get("video_size")))
        square = entries("max_image_size", settings["max_image_size"]).get("longest_edge")
        longest = size.get("longest_edge")
        return {
            **super().read({**settings, "size": 1 if longest else size}),
            "longest": longest and min(_LONGEST, whole_number("size.longest_edge", longest)),
            "square": whole_number("max_image_size.longest_edge", square),
        }

    @property
    def made(self) -> tuple[int, int] | None:
        """Height and width of the frames made."""
        return None if self.size is None else (self.square, self.square)

    def sizes(self, frames: int, height: int, width: int) -> Iterator[tuple[int, int]]:
        """The size of one longer edge, and the square."""
        if self.size is None:
            return
        if self.longest is None:
            yield from super().sizes(frames, height, width)
        else:
            yield self._long(height, width)
        yield self.square, self.square

    def _long(self, height: int, width: int) -> tuple[int, int]:
        assert self.longest is not None
        # In the processor's order of rounding.
        aspect = width / height
        if width >= height:
            short = int(self.longest / aspect)
            return max(1, short + short % 2), self.longest
        short = int(self.longest * aspect)
        return self.longest, max(1, short + short % 2)


class SmolVLMAdapter(VideoAdapter):
    """`SmolVLMForConditionalGeneration`."""

    preprocessing = SmolPreprocessing
    chat_template = DEFAULT_CHAT_TEMPLATE
    frames_say_all = False

    def refuse(self) -> None:
        """Raise `UserError` if patches cannot be put together to tokens."""
        super().refuse()
        self.grid(1)

    @property
    def video_token(self) -> int:
        """The token that stands for frames, which are pictures here."""
        return self.model.config.image_token_id

    def grid(self, frames: int, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
        """Times, rows and columns of tokens: frames of one size, with patches joined."""
        side = self.side(self.model.config.scale_factor)
        return frames, side, side

    def placeholder(self, word: Word) -> str:
        """What the chat template writes for a video, which is no token of it."""
        return "<video>"

    def apart(self, layout: Layout, word: Word) -> list[str]:
        """How a prompt writes each picture."""
        return [f"{_AROUND}{_GLOBAL}{one}{_AROUND}" for one in super().apart(layout, word)]

    def whole(self, layout: Layout, word: Word) -> str:
        """How a prompt writes the video: what it is, and when each frame is shown.

        Raises:
            UserError: nobody knows the times.
        """
        if len(layout.seconds) != layout.frames:
            raise UserError(
                "the times of the frames stand in the prompts of smolvlm, and are not known; encode"
                " a clip that read_clip gives, and make the prompt for its features"
            )
        text = DEFAULT_VIDEO_INTRO.format(
            frame_count=in_words(layout.frames),
            video_duration=timedelta(seconds=int(layout.duration)),
        )
        for second, picture in zip(layout.seconds, self.apart(layout, word)):
            shown = f"{int(second // 60):02d}:{int(second % 60):02d}"
            text += FRAME_TIMESTAMP_MESSAGE.format(timestamp=shown) + picture
        return text + DEFAULT_MEDIA_OUTTRO

    def features(
        self, pixels: Float[Tensor, "batch frames 3 height width"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What the vision tower makes of some frames."""
        model: Any = self.model
        return torch.stack(model.get_image_features(pixels, return_dict=True).pooler_output)


def in_words(number: int) -> str:
    """A number up to a million in English, as the package num2words writes it."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    between = " and " if rest < 100 else ", "
    return f"{in_words(thousands)} thousand" + (between + in_words(rest) if rest else "")
