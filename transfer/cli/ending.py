"""How a command ends that cannot go on: by a signal, or because nothing more can be written."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from transfer.terminal import say

_BAD_INPUT, _UNREAD = 2, 141
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
        return _BAD_INPUT
    try:
        flush()
    except OSError:
        # What is left in its buffer would be tried again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        # Whoever reads has enough, as `head` does; the code is what a signal would have made of it.
        return _UNREAD
    what = error.filename or "the output"
    say(f"error: cannot write {what}: {error.strerror}; make room for it")
    return _BAD_INPUT


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, unless whoever started this process has it ignored.

    Processes that are started meanwhile hear it as they like: a handler ends where they begin.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
