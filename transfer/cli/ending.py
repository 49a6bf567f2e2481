"""How a command ends that cannot go on: by a signal, or because nothing more can be written."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from transfer.errors import how_to_go_on
from transfer.terminal import say

BAD_INPUT, FAILED, INTERRUPTED, UNREAD = 2, 1, 130, 141
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EPIPE)


def flush() -> None:
    """Write out what was printed, while that can still be refused in a sentence."""
    # There is none where it was closed before the start.
    if sys.stdout is not None:
        sys.stdout.flush()


def unwritten(error: OSError) -> int:
    """The sentence for a disk or a standard output that takes no more; other errors go on."""
    if error.errno not in _FULL:
        if error.filename is None:
            raise error
        say(f"error: cannot use {error.filename}: {error.strerror}")
        return BAD_INPUT
    try:
        flush()
    except OSError:
        # What is left in its buffer would be tried again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        # Whoever reads has enough, as `head` does; the code is what a signal would have made of it.
        return UNREAD
    what = error.filename or "the output"
    say(f"error: cannot write {what}: {error.strerror}; make room for it")
    return BAD_INPUT


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, unless whoever started this has them ignored.

    Processes that are started meanwhile hear them as they like: a handler ends where they begin.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    heard = {number for number, handler in usual.items() if signal.getsignal(number) == handler}
    if threading.current_thread() is not threading.main_thread():
        heard = set()
    for number in heard:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, usual[number])


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _is_importing(frame):
        # Libraries swallow what is raised in their imports, and fail later of what is missing.
        # Standard error may be held back meanwhile.
        print(f"interrupted: {how_to_go_on()}", file=sys.__stderr__, flush=True)
        os._exit(INTERRUPTED)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    """Whether something that a command began is being imported."""
    while frame is not None and frame.f_globals.get("__name__") != "transfer.cli":
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
