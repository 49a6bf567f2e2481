"""The inputs of one forward pass, fed to a model whole or in pieces as decoding feeds them."""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import Cache

from transfer.attachment.adapter import Adapter
from transfer.errors import UserError

#: The last tokens are fed one at a time, and so many before them in one call.
SINGLE, CHUNK = 8, 9
#: What is left of the fewest tokens is a prompt that is pruned at least twice.
FEWEST = 2 * (SINGLE + CHUNK)


class Pieces:
    """Keyword arguments of a model that can be cut along their tokens.

    Args:
        adapter: of the model.
        inputs: with `input_ids` or `inputs_embeds`. What comes with every token is cut as they are;
            everything else (pictures, say) goes with the first piece.

    Raises:
        UserError: these are no inputs, or too few tokens.
    """

    def __init__(self, adapter: Adapter, inputs: Mapping[str, Any]) -> None:
        self._adapter, self._inputs = adapter, _checked(inputs)
        name = "input_ids" if "input_ids" in self._inputs else "inputs_embeds"
        self.batch, self.tokens = self._inputs[name].shape[:2]

    @property
    def valid(self) -> Bool[Tensor, "batch tokens"]:
        """False at padding."""
        mask = self._inputs.get("attention_mask")
        return torch.ones(self.batch, self.tokens).bool() if mask is None else mask.bool().cpu()

    @property
    def whole(self) -> list[int]:
        """All tokens in one call."""
        return [self.tokens]

    @property
    def stepwise(self) -> list[int]:
        """Tokens of each call: a prompt, a chunk of it, and the last tokens one at a time."""
        return [self.tokens - CHUNK - SINGLE, CHUNK, *[1] * SINGLE]

    def outputs(self, sizes: list[int], cache: Cache | None) -> Float[Tensor, "batch tokens ..."]:
        """What the model says of each token when it gets `sizes` tokens a call."""
        return torch.cat([self._adapter.outputs(part, cache) for part in self._cut(sizes)], 1)

    def _cut(self, sizes: list[int]) -> Iterator[dict[str, Any]]:
        for size, stop in zip(sizes, accumulate(sizes)):
            parts = {
                name: self._part(name, value, stop - size, stop)
                for name, value in self._inputs.items()
            }
            yield {name: part for name, part in parts.items() if part is not None}

    def _part(self, name: str, value: Any, start: int, stop: int) -> Any:
        if name == "attention_mask":
            return value[:, :stop]
        if name == "position_ids":
            return value[..., start:stop]
        if getattr(value, "shape", ())[:2] == (self.batch, self.tokens):
            return value[:, start:stop]
        return None if start else value


def _checked(inputs: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(inputs, Mapping):
        raise UserError(
            f"inputs is a {type(inputs).__name__}; pass a dict of the model's keyword arguments, "
            'as {"input_ids": ids}'
        )
    given = {name: value for name, value in inputs.items() if value is not None}
    tokens = given.get("input_ids", given.get("inputs_embeds"))
    dimensions = 2 if "input_ids" in given else 3
    if not isinstance(tokens, Tensor) or tokens.ndim != dimensions:
        raise UserError(
            f"inputs has {', '.join(map(str, given)) or 'nothing'}; give it input_ids "
            "[batch, tokens] or inputs_embeds [batch, tokens, hidden], as tensors"
        )
    if tokens.shape[1] < FEWEST:
        raise UserError(
            f"inputs has {tokens.shape[1]} tokens; pruning cannot be told from rounding on so few, "
            f"pass {FEWEST} or more"
        )
    mask = given.get("attention_mask")
    if mask is not None and tuple(mask.shape) != tuple(tokens.shape[:2]):
        raise UserError(
            f"the attention_mask in inputs is {list(mask.shape)} for tokens "
            f"{list(tokens.shape[:2])}; pass one [batch, tokens], 0 at padding"
        )
    return given
