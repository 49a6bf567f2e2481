"""Subtitles: the dialects they are written in, and where they stand in a prompt."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer.errors import UserError
from transfer.tasks.video.files import read_rows
from transfer.tasks.video_records import FRAME, VIDEO, Subtitle

_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
_SPAN = re.compile(rf"{_TIME.pattern}\s*-->\s*{_TIME.pattern}.*")
_TAG = re.compile(r"<[^>]*>")


def read_json_subtitles(path: Path, begin: float, duration: float | None) -> tuple[Subtitle, ...]:
    """Lines like `{"timestamp": [1.0, 2.5], "text": ...}` or `{"start": "00:00:01.0", "end": ...,
    "line": ...}`, in order of time.

    Args:
        path: a JSON file.
        begin: time in them at which the video begins.
        duration: of the video; a line without an end lasts until then.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = [_line(fields, begin, duration) for fields in read_rows(path)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no list of subtitles ({error!r}); check the file") from error
    return tuple(sorted(lines, key=lambda line: line.start))


def _line(fields: Mapping[str, Any], begin: float, duration: float | None) -> Subtitle:
    if "timestamp" not in fields:
        start, end = _seconds(fields["start"]), _seconds(fields["end"])
        return Subtitle(start - begin, end - begin, fields["line"].strip())
    start, end = fields["timestamp"]
    last = float(start) - begin if duration is None else duration
    end = last if end is None else float(end) - begin
    return Subtitle(float(start) - begin, end, fields["text"].strip())


def read_srt(path: Path) -> tuple[Subtitle, ...]:
    """The lines of a SubRip file, without their formatting.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the subtitles {path} ({error}); check the file") from error
    return tuple(_srt_lines(text))


def _srt_lines(text: str) -> Iterator[Subtitle]:
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        for at, line in enumerate(lines[:2]):
            if found := _SPAN.fullmatch(line.strip()):
                spoken = " ".join(_TAG.sub("", " ".join(lines[at + 1 :])).split())
                yield Subtitle(_sum(found.groups()[:3]), _sum(found.groups()[3:]), spoken)
                break


def _seconds(text: str) -> float:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time")
    return _sum(found.groups())


def _sum(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in parts)
    return 3600 * hours + 60 * minutes + seconds


def between_frames(subtitles: Sequence[Subtitle], seconds: Sequence[float]) -> tuple[str, ...]:
    """Frames with lines between them, each on a line of its own after the frames up to its middle.

    Only lines that a frame falls into are there; those shorter than a second count as one second
    around their middle.

    Args:
        subtitles: in order of time.
        seconds: of the frames.

    Returns:
        parts of a prompt.
    """
    shown = [line for line in subtitles if any(_covers(line, second) for second in seconds)]
    if not shown:
        return (VIDEO,)
    parts: list[str] = []
    frames = 0
    for line in shown:
        until = sum(second <= _middle(line) for second in seconds)
        parts += [FRAME] * (until - frames) + [f"\n{line.text}\n"]
        frames = max(frames, until)
    return (*parts, *[FRAME] * (len(seconds) - frames))


def spoken_at(subtitles: Sequence[Subtitle], seconds: Sequence[float]) -> list[str]:
    """The lines that a frame falls into."""
    return [
        line.text
        for line in subtitles
        if line.text and any(line.start <= second < line.end for second in seconds)
    ]


def _middle(line: Subtitle) -> float:
    return (line.start + line.end) / 2


def _covers(line: Subtitle, second: float) -> bool:
    if line.end - line.start < 1:
        return abs(second - _middle(line)) < 0.5
    return line.start < second < line.end
