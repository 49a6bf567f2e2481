"""What a checkpoint's files say of its prompts and pictures, read and done without torchvision.

Both layouts are read: `processor_config.json` with everything in it (transformers 5), and
`video_preprocessor_config.json` or `preprocessor_config.json` with chat templates of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils.hub import cached_file

from transfer.errors import UserError
from transfer.files import read_json_object

PROCESSOR = "processor_config.json"
#: Where pictures' settings stand, beside the processor's own file; the first that is there counts.
PICTURES = ("video_preprocessor_config.json", "preprocessor_config.json")

#: Where the processors of some families have no colours in their files.
CLIP_COLOURS = {"image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD}
#: `resample` of the files (numbers of PIL) -> torch's name. Before torch 2.12, which has Lanczos,
#: bicubic stands in for it, there as here.
_LANCZOS = "lanczos" if torch.__version__ >= "2.12" else "bicubic"
_RESAMPLE = {0: "nearest", 1: _LANCZOS, 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocessing:
    """From RGB frames to what a vision tower takes: resized, cropped, normalised.

    Args:
        size: of the shortest edge, or height and width; None: not resized.
        crop: height and width of the centre that is cut out; None: nothing is cut off.
        resample: how pixels are interpolated, a number of PIL.
        scale: factor of the pixels.
        mean, std: of the scaled pixels' colours.
    """

    #: Settings of the processor's class, where files are silent.
    defaults: ClassVar[Mapping[str, Any]] = {}

    size: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.resample not in _RESAMPLE:
            raise UserError(f"resample is {self.resample}; known: {sorted(_RESAMPLE)}")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Preprocessing":
        """Read the settings of a video (or image) processor.

        Raises:
            UserError: a setting is missing or of a wrong kind.
        """
        try:
            return cls(**cls.read({**cls.defaults, **settings}))
        except KeyError as error:
            raise UserError(
                f"the processor's files lack {error}; download or save the processor again"
            ) from error

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of this class."""
        resizes, crops = settings.get("do_resize", True), settings.get("do_center_crop", True)
        normalises = settings.get("do_normalize", True)
        factor = _numbers("rescale_factor", [settings.get("rescale_factor", 1 / 255)])[0]
        return {
            "size": _size(settings["size"]) if resizes else None,
            "crop": _height_and_width(settings["crop_size"]) if crops else None,
            "resample": int(_numbers("resample", [settings.get("resample", 3)])[0]),
            "scale": factor if settings.get("do_rescale", True) else 1.0,
            "mean": _colours(settings, "image_mean") if normalises else (0.0,) * 3,
            "std": _colours(settings, "image_std") if normalises else (1.0,) * 3,
        }

    @property
    def made(self) -> int | tuple[int, int] | None:
        """Height and width of the frames made, or the shorter of both; None: any."""
        return self.crop or self.size

    def __call__(
        self, pixels: UInt8[np.ndarray, "frames height width 3"]
    ) -> Float[Tensor, "1 frames 3 new_height new_width"]:
        """Frames as `pixel_values_videos`."""
        frames = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
        frames = self._centre(self._resized(frames)).float() * self.scale
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (self.mean, self.std))
        return ((frames - mean) / std)[None]

    def _resized(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> UInt8[Tensor, "frames 3 new_height new_width"]:
        for size in self.sizes(*frames.shape[:1], *frames.shape[-2:]):
            frames = _interpolated(frames, size, _RESAMPLE[self.resample])
        return frames

    def sizes(self, frames: int, height: int, width: int) -> Iterable[tuple[int, int]]:
        """The heights and widths to which frames are made, one after the other.

        Args:
            frames: of the video.
            height, width: of the frames as they are.
        """
        if not isinstance(self.size, int):
            return [] if self.size is None else [self.size]
        long = int(self.size * max(height, width) / min(height, width))
        return [(self.size, long) if height <= width else (long, self.size)]

    def _centre(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> UInt8[Tensor, "frames 3 new_height new_width"]:
        if self.crop is None:
            return frames
        (height, width), (tall, wide) = self.crop, frames.shape[-2:]
        if height > tall or width > wide:
            raise UserError(
                f"frames of {tall} x {wide} cannot be cropped to {height} x {width};"
                " correct size or crop_size in the processor's files"
            )
        top, left = (tall - height) // 2, (wide - width) // 2
        return frames[..., top : top + height, left : left + width]


def _interpolated(
    frames: UInt8[Tensor, "frames 3 height width"], size: tuple[int, int], mode: str
) -> UInt8[Tensor, "frames 3 new_height new_width"]:
    if size == tuple(frames.shape[-2:]):
        return frames
    if mode == "nearest":
        return interpolate(frames, size, mode=mode)
    # Rounded to bytes again, as the official processor does.
    return interpolate(frames, size, mode=mode, antialias=True, align_corners=False)


def load_preprocessing(source: str, kind: type[Preprocessing] = Preprocessing) -> Preprocessing:
    """Read how the frames of a checkpoint are prepared.

    Args:
        source: a folder or a hub id.
        kind: of the model's family.

    Raises:
        UserError: none of the files is there, or a setting is missing or of a wrong kind.
    """
    for name in (PROCESSOR, *PICTURES):
        content = _read(source, name)
        if name == PROCESSOR and content is not None:
            content = content.get("video_processor")
        if content is None:
            continue
        try:
            if not isinstance(content, dict):
                raise UserError(f"video_processor is {content!r}; save the processor again")
            return kind.of(content)
        except UserError as error:
            raise UserError(f"{Path(source, name)}: {error}") from error
    raise UserError(
        f"{source} has no file that says how frames are prepared"
        f" ({', '.join(PICTURES)} or {PROCESSOR} with a video_processor);"
        " save the model's processor there"
    )


def load_patch_size(source: str) -> int | None:
    """The patch size in the processor's file; older ones do not say it."""
    return (_read(source, PROCESSOR) or {}).get("patch_size")


def load_chat_template(source: str) -> str | None:
    """The checkpoint's chat template for prompts with videos, None if no file has one."""
    template = (_read(source, PROCESSOR) or {}).get("chat_template")
    if template is None and (path := _path(source, "chat_template.jinja")):
        template = path.read_text(encoding="utf-8")
    if template is None:
        template = (_read(source, "chat_template.json") or {}).get("chat_template")
    return template


def _read(source: str, name: str) -> dict[str, Any] | None:
    path = _path(source, name)
    return None if path is None else read_json_object(path)


def _path(source: str, name: str) -> Path | None:
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _colours(settings: Mapping[str, Any], name: str) -> tuple[float, ...]:
    return _numbers(name, settings[name], 3)


def _numbers(name: str, values: Any, count: int = 1) -> tuple[float, ...]:
    fits = isinstance(values, list | tuple) and len(values) == count
    if not fits or not all(isinstance(value, int | float) for value in values):
        raise UserError(f"{name} is {values!r}; use {count} {'numbers' if count > 1 else 'number'}")
    return tuple(map(float, values))


def _size(size: Any) -> int | tuple[int, int]:
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge")
        return _pixels(edge) if edge else _height_and_width(size)
    return _pixels(size)


def _height_and_width(size: Any) -> tuple[int, int]:
    sides = (size["height"], size["width"]) if isinstance(size, Mapping) else (size, size)
    return _pixels(sides[0]), _pixels(sides[1])


def whole_number(name: str, value: Any) -> int:
    """A setting that is a whole number.

    Raises:
        UserError: it is none.
    """
    if type(value) is not int or value < 1:
        raise UserError(f"{name} is {value!r}; use a whole number, 1 or more")
    return value


def entries(name: str, value: Any) -> Mapping[str, Any]:
    """A setting that has names and values itself.

    Raises:
        UserError: it has none.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{name} is {value!r}; use an object with names, as the processor saves it")
    return value


def _pixels(side: Any) -> int:
    if not isinstance(side, int) or side < 1:
        raise UserError(f"size or crop_size has {side!r}; use whole numbers of pixels, 1 or more")
    return side
