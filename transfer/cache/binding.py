"""Which model a pruned cache belongs to, and until when."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional
from uuid import uuid4
from weakref import WeakValueDictionary

from transformers import PreTrainedConfig

from transfer.cache.policy import Depth, Pruning
from transfer.errors import UserError

_ALL: WeakValueDictionary[str, "Binding"] = WeakValueDictionary()


class Binding:
    """One model under one pruning, from `attach` to `detach`; its caches share it.

    Args:
        config: of the text decoder.
        pruning: of its caches.
        implementation: the attention that the model has as long as it is attached.
        depths: of its pruned layers, by their index in the model.
        model: says what tells the model from others, as JSON can say it.

    Attributes:
        attached: False from `detach` on.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        pruning: Pruning,
        implementation: str,
        depths: Mapping[int, Depth],
        model: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.config = config
        self.pruning = pruning
        self.implementation = implementation
        self.depths = depths
        self._model = model
        self.attached = True
        self._name = uuid4().hex
        _ALL[self._name] = self

    def check(self) -> None:
        """Raise `UserError` unless the model is attached."""
        if not self.attached:
            raise UserError(
                "this pruned cache was made by an attachment that has ended; attach the model again"
                " and make a new cache with memory.new_cache()"
            )
        now = self.config._attn_implementation
        if now != self.implementation:
            raise UserError(
                f"the attention of this model was set to {now!r} after attach, and a pruned cache "
                "cannot follow; leave it as attach sets it, or detach and use the model's own cache"
            )

    def identity(self) -> dict[str, Any]:
        """What tells the model and its pruning from others, for what outlives this process.

        Raises:
            UserError: the weights cannot be read, or the policy's settings not be told apart.
        """
        policy = self.pruning.policy
        settings = {field.name: getattr(self.pruning, field.name) for field in fields(self.pruning)}
        told = {**self._model(), **settings, "policy": f"{policy.name} ({type(policy).__name__})"}
        told |= {f"{policy.name} {name}": value for name, value in policy.identity().items()}
        try:
            return json.loads(json.dumps(told))
        except TypeError as error:
            raise UserError(
                f"no file can say which {policy.name} this is ({error}); give its class a method "
                "identity() that returns numbers and texts by name"
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> "Binding":
        """Itself: a copy of a cache belongs to the same model."""
        return self

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Found again in this process; elsewhere a cache belongs to whoever runs it first."""
        return _found, (self._name,)


def _found(name: str) -> Optional["Binding"]:
    return _ALL.get(name)


@dataclass(frozen=True)
class Tie:
    """What `attach` leaves in an attention module; copies of the model are not tied.

    Attributes:
        binding: the attachment; None in a copy.
        pruned: False for windows and chunks, which keep the attention they were made for.
    """

    binding: Binding | None
    pruned: bool

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tie":
        """Of a copy."""
        return Tie(None, self.pruned)

    def __reduce__(self) -> tuple[Any, tuple[None, bool]]:
        """Of a copy."""
        return Tie, (None, self.pruned)


def tie_of(module: Any) -> Tie:
    """The tie of an attention module.

    Raises:
        UserError: its model is not attached, or it is no layer's.
    """
    tie = getattr(module, "transfer_tie", None)
    if tie is None and not isinstance(getattr(module, "layer_idx", None), int):
        raise UserError(
            f"{type(module).__name__} attends for no layer of its own (for several, or beside all "
            "of them), which a pruned cache cannot follow; use another model"
        )
    if tie is None or tie.binding is None or not tie.binding.attached:
        raise UserError(
            "this model computes the attention of pruned caches and is not attached: it shares the "
            "configuration of an attached model, or is a copy of one; copy a model before it is "
            "attached or after it is detached, or give it a configuration of its own and "
            "set_attn_implementation('sdpa')"
        )
    return tie
