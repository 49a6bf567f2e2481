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
    #: What says how large the pictures are.
    sizes: int

    def split(self, packet: "Packet", settings: bytes) -> Iterator[tuple[int, memoryview]]:
        """The units of a packet and their kinds; each stands behind its length."""
        if len(settings) <= self.length_at or settings[0] != 1:
            return
        content, place, length = memoryview(packet), 0, 1 + (settings[self.length_at] & 3)
        while (start := place + length) < len(content):
            place = start + int.from_bytes(content[place:start])
            if start < place:
                yield content[start] >> self.shift & self.kinds - 1, content[start:place]


_UNITS = {
    "h264": _Units(4, 0, 32, range(1, 6), (5,), 7),
    "hevc": _Units(21, 1, 64, range(32), range(16, 22), 33),
}
#: Of which the functions here know how packets are made.
KNOWN_CODECS = (*_UNITS, "vp8", "vp9")
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
    for kind, unit in units.split(packet, settings):
        if kind in units.pictures:
            return recovers or kind in units.begin, kind in units.begin
        recovers |= codec == "h264" and kind == _H264_MESSAGES and _recovers_at_once(unit)
    return False, False


def said_size(packet: "Packet", codec: str, settings: bytes) -> bytes:
    """What a key frame says of the size of its pictures; other pictures of it may say no other.

    Empty where it says nothing, or what stands in the settings; arguments are as of `may_begin`.
    """
    content = memoryview(packet)
    if codec == "vp8":
        return bytes(content[6:10])
    if codec == "vp9":
        return (int.from_bytes(content[4:9]) >> 4).to_bytes(5)
    if codec not in _UNITS:
        return b""
    units = _UNITS[codec]
    said = [bytes(unit) for kind, unit in units.split(packet, settings) if kind == units.sizes]
    return b"".join(each for each in said if each not in settings)


def _recovers_at_once(unit: memoryview) -> bool:
    """Whether one of the messages of H.264 says that the pictures from here on are right."""
    place = 1
    # Numbers above 254 take several bytes; a message of that length is not the one.
    while place + 2 < len(unit) and 255 not in (kind := unit[place], size := unit[place + 1]):
        if kind == _RECOVERY:
            return unit[place + 2] >= 0x80
        place += 2 + size
    return False
