"""Keys on their way from a pruned cache to its attention function, which alone may read them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor

from transfer.errors import UserError

if TYPE_CHECKING:
    from transfer.cache.layer import PrunedLayer

#: What models ask of keys without reading them.
_FORMALITIES = {
    Tensor.size,
    Tensor.dim,
    Tensor.stride,
    Tensor.is_contiguous,
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout")
    ),
}


class Parked(Tensor):
    """The new keys of one layer, which are not all it attends to.

    A pruned cache hands these out instead of plain tensors, so that whatever else computes with
    them (the model's own attention after `detach`, another model, a model that changes keys
    between its cache and its attention) is refused at once, instead of seeing the new tokens alone.

    Attributes:
        plain: the same keys for the attention function.
        layer: that attends.
        owner: the cache it belongs to.
        spent: whether the attention function has had them.
    """

    plain: Tensor
    layer: "PrunedLayer"
    owner: Any
    spent: bool

    @staticmethod
    def of(key: Tensor, layer: "PrunedLayer", owner: Any) -> "Parked":
        """Wrap the keys of a layer."""
        parked = key.as_subclass(Parked)
        parked.plain, parked.layer, parked.owner, parked.spent = key, layer, owner, False
        return parked

    @classmethod
    def __torch_function__(
        cls,
        func: Callable,
        types: Any,
        args: tuple = (),
        kwargs: Optional[dict] = None,  # noqa: UP045 - torch's own signature
    ) -> Any:
        """Refuse all but what looks at shapes."""
        if func in _FORMALITIES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise UserError(
            "the keys of a pruned cache were used outside its attention function: the model that "
            "was given the cache is not attached, is compiled, or changes keys on their way; run "
            "it inside `with attach(model, policy)`, with a cache that was made there"
        )
