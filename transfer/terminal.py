"""What a terminal, a pipe and a log can show: their colours and their characters.

No library is imported, because help and errors wait for nothing.
"""

import codecs
import io
import os
import sys
import unicodedata
from typing import Any

BOLD, RED = "1", "1;31"
_SPELLED = "transfer.spelled"
_PLAIN = {"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "·": "."}
_PLAIN |= {"±": "+-", "→": "->", "×": "x", "≤": "<=", "≥": ">=", "█": "#", "✓": "+", "✗": "x"}


def spell_what_is_missing() -> None:
    """Let standard output and error take any text, whatever the locale.

    What their encoding lacks is written in ASCII, lines and signs as they look, and no print fails.
    """
    codecs.register_error(_SPELLED, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors=_SPELLED)


def is_coloured(stream: Any) -> bool:
    """Whether colours are written to a text stream, or None.

    They are on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise.
    """
    if os.environ.get("NO_COLOR") or stream is None:
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (
        stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    )


def styled(text: str, style: str, stream: Any) -> str:
    """The text with the codes of `BOLD` or `RED` around it, where colours are written."""
    return f"\033[{style}m{text}\033[0m" if is_coloured(stream) else text


def say(text: str) -> None:
    """One line on standard error; what comes before the first colon is red if it is an error."""
    kind, colon, rest = text.partition(":")
    red = styled(kind, RED, sys.stderr) if kind == "error" else kind
    if sys.stderr is not None:
        print(f"{red}{colon}{rest}", file=sys.stderr)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        across, down = ("HORIZONTAL" in name, "VERTICAL" in name)
        return "+" if across == down else "-" if across else "|"
    if name.startswith("BRAILLE"):
        return "*"
    # Letters are of names, which are told exactly.
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode()
