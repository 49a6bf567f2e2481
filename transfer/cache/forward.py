"""The forward passes of attached models that a thread is in, and the caches that went through them.

A step of a cache ends with the outermost forward pass of its model, so that what fails behind the
last layer (the head, too little memory for logits) is not taken for a step. Hooks tell when a pass
begins and ends; after an exception none is called, and the pass is known to be over because its
frame is not on the stack any more.
"""

import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.utils.hooks import RemovableHandle

from transfer.cache.binding import Binding

#: Where `Module.__call__` is.
CALLS = nn.modules.module.__file__


@runtime_checkable
class Stepping(Protocol):
    """What takes a step in a forward pass: a cache."""

    def end_step(self) -> None:
        """All layers have taken it."""


@dataclass(eq=False)
class Pass:
    """One forward pass.

    Attributes:
        binding: of the model.
        frame: of `Module.__call__`.
        caches: through which all layers went.
    """

    binding: Binding
    frame: FrameType | None
    caches: list[Stepping] = field(default_factory=list)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pass":
        """Itself: copies of a cache were in the same pass."""
        return self

    def __reduce__(self) -> tuple[Any, tuple[Binding, None]]:
        """Over, where it is read again."""
        return Pass, (self.binding, None)


class Passes(threading.local):
    """Those of this thread, outermost first."""

    def __init__(self) -> None:
        self.running: list[Pass] = []


PASSES = Passes()


def watch(module: nn.Module, binding: Binding) -> tuple[RemovableHandle, RemovableHandle]:
    """Let the forward passes of a module, which holds all layers, be known."""
    return (
        module.register_forward_pre_hook(partial(_begin, binding)),
        module.register_forward_hook(_end),
    )


def current(binding: Binding | None) -> Pass | None:
    """The outermost pass of this model that is running; None: of any."""
    _drop_those_that_failed()
    own = (each for each in PASSES.running if binding in (None, each.binding))
    return next(own, None)


def _begin(binding: Binding, *args: Any) -> None:
    _drop_those_that_failed()
    PASSES.running.append(Pass(binding, _call()))


def _end(*args: Any) -> None:
    _drop_those_that_failed()
    # A model that is attached in the middle of a pass was not seen to begin it.
    if PASSES.running and PASSES.running[-1].frame is _call():
        for cache in PASSES.running.pop().caches:
            cache.end_step()


def _call() -> FrameType | None:
    """The frame of `Module.__call__` from which a hook is called."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename != CALLS:
        frame = frame.f_back
    return frame


def _drop_those_that_failed() -> None:
    lost = {id(each.frame) for each in PASSES.running}
    frame = sys._getframe(1) if lost else None
    while frame is not None and lost:
        lost.discard(id(frame))
        frame = frame.f_back
    if lost:
        PASSES.running = [each for each in PASSES.running if id(each.frame) not in lost]
