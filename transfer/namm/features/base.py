"""What a kind of feature has to say of itself, and what it may ask of the attention."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from transfer.ragged import RaggedAttention


@runtime_checkable
class Attention(Protocol):
    """Attention of some queries in a row onto the tokens of a layer's cache."""

    @property
    def queries(self) -> int:
        """Queries that are new; those before them were looked at already."""
        ...

    def fold(
        self,
        reduce: Callable[[Tensor], Tensor],
        onto: Float[Tensor, "batch kv_heads tokens ..."],
        carried: int = 0,
    ) -> Float[Tensor, "batch kv_heads tokens ..."]:
        """Add to `onto` what `reduce` makes of `[rows, carried + queries, tokens]`, in blocks.

        `reduce` returns `[rows, tokens, ...]`. A row is a head of a sequence; padding and tokens
        that a query cannot see have 0.
        """
        ...

    def ragged(self, carried: int = 0) -> RaggedAttention | None:
        """What a kernel needs for the same; None where there is no GPU to run it."""
        ...


@dataclass(frozen=True)
class Tokens:
    """The cached tokens of some heads at an update, padded on the left, newest token last.

    Attributes:
        state: what the feature keeps of each; anything finite at padding, as everything here.
        age: tokens seen since each, 0 for the newest; evicted ones count.
        index: of each in its sequence, 0 for the first; evicted ones count.
        valid: False at padding.
        norms: Euclidean norms of key and value, where the feature `reads_norms`.
        gamma: decay a query.
        unlike: how each key differs from the others, where it `reads_unlike`.
    """

    state: Float[Tensor, "rows tokens size"]
    age: Int[Tensor, "rows tokens"]
    index: Int[Tensor, "rows tokens"]
    valid: Bool[Tensor, "rows tokens"]
    norms: Float[Tensor, "rows tokens 2"] | None
    gamma: float
    unlike: Float[Tensor, "rows tokens"] | None = None


class Feature(ABC):
    """A few floats a token, made of the attention it receives, query after query.

    Attributes:
        state_size: floats kept with every cached token.
        width: floats that the scorer reads of them.
        looks_back: queries before the new ones that `accumulate` asks for.
        multiple_of: new queries come in multiples of so many; update intervals have to fit.
        half_state: whether the state may be float16 where the model is of half precision.
        byte_state: whether it may be bytes (`transfer.cache.codes`): its numbers are from 0 to 16,
            4 % more or less of one matter little, and all fade with `gamma`.
        reads_norms: whether `read` looks at the norms of keys and values, beside the attention.
        reads_unlike: whether it looks at how keys differ from each other.
    """

    state_size: int
    width: int
    looks_back: int = 0
    multiple_of: int = 1
    half_state: bool = False
    byte_state: bool = False
    reads_norms: bool = False
    reads_unlike: bool = False

    @property
    def family(self) -> Hashable:
        """What the state is; joined features of one family share that of the largest.

        The states of a family begin with the same numbers.
        """
        return self

    @abstractmethod
    def accumulate(
        self, window: Attention, state: Float[Tensor, "batch kv_heads tokens size"], gamma: float
    ) -> Float[Tensor, "batch kv_heads tokens size"]:
        """Take the attention of new queries into the state; called with each query once, in order.

        Args:
            window: the attention.
            state: of the tokens, 0 for new ones; may be changed in place.
            gamma: decay a query (`NAMMConfig.gamma`).
        """

    def transform(self, state: Float[Tensor, "*tokens size"]) -> Float[Tensor, "*tokens width"]:
        """What is normalised and then scored; the state itself is left as it is."""
        return state

    def read(self, tokens: Tokens) -> Float[Tensor, "rows tokens width"]:
        """The same for a feature that needs more than a token's own state.

        A row must not influence another, nor padding any token.
        """
        return self.transform(tokens.state)
