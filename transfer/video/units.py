"""What a packet is, by the first bits of what it holds; nothing is decoded."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from av import Packet


class _Units(NamedTuple):
    """How a codec's packets are made of units."""

    #: Where the decoder's settings say how many bytes a unit's length takes, less one.
    length_at: int
    #: Where the kind stands in a unit's first byte: shifted by so many bits, so many kinds.
    shift: int
    kinds: int
    #: Those that are pictures, and of them those that a decoder may begin at.
    pictures: Sequence[int]
    begin: Sequence[int]


_UNITS = {
    "h264": _Units(4, 0, 32, range(1, 6), (5,)),
    "hevc": _Units(21, 1, 64, range(32), range(16, 22)),
}
_H264_MESSAGES, _RECOVERY = 6, 6


def is_hidden(packet: "Packet", codec: str) -> bool:
    """Whether it only holds a frame that others refer to and nobody sees (VP8, VP9)."""
    if codec not in ("vp8", "vp9"):
        return False
    content = memoryview(packet)
    first = content[0]
    if codec == "vp8":
        return not first & 0x10
    # Profile 3 has one more bit before these.
    shift = 0 if first & 0x30 == 0x30 else 1
    repeats, shows = first >> shift & 4, first >> shift & 1
    # Several frames in one packet end with one that is shown.
    several = content[-1] & 0xE0 == 0xC0
    return not (repeats or shows or several)


def may_begin(packet: "Packet", codec: str, settings: bytes) -> tuple[bool, bool]:
    """Whether a decoder may begin at a packet marked as a key frame, and is told to begin anew.

    H.264 also marks frames from which pictures recover, at once or after a while, and some files
    mark every frame. Of other codecs than H.264 and HEVC the mark is believed.

    Args:
        packet: marked as a key frame.
        codec: its canonical name.
        settings: for the decoder, as MP4 and Matroska hold them.
    """
    if codec not in _UNITS:
        return True, True
    units, recovers = _UNITS[codec], False
    if len(settings) <= units.length_at or settings[0] != 1:
        return False, False
    for unit in _split(packet, 1 + (settings[units.length_at] & 3)):
        kind = unit[0] >> units.shift & units.kinds - 1
        if kind in units.pictures:
            return recovers or kind in units.begin, kind in units.begin
        recovers |= codec == "h264" and kind == _H264_MESSAGES and _recovers_at_once(unit)
    return False, False


def _split(packet: "Packet", length: int) -> Iterator[memoryview]:
    """The units of a packet, each of which stands behind its length."""
    content, place = memoryview(packet), 0
    while (start := place + length) < len(content):
        place = start + int.from_bytes(content[place:start])
        if start < place:
            yield content[start:place]


def _recovers_at_once(unit: memoryview) -> bool:
    """Whether one of the messages of H.264 says that the pictures from here on are right."""
    place = 1
    # Numbers above 254 take several bytes; a message of that length is not the one.
    while place + 2 < len(unit) and 255 not in (kind := unit[place], size := unit[place + 1]):
        if kind == _RECOVERY:
            return unit[place + 2] >= 0x80
        place += 2 + size
    return False
