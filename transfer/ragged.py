"""What kernels are told of a window of queries and of the ragged tokens that they look at.

Below the rooms, because the cache makes it and both its kernels and those of a NAMM's features
read it.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class RaggedAttention:
    """Queries, row by row, and where the tokens of each row lie. A row is a (sequence, KV head).

    Attributes:
        query: of the query heads of each row; any strides but the last.
        lse: logsumexp of the queries' scores, +inf where there is no query; contiguous in the last
            dimension.
        keys, positions: flat buffers, contiguous.
        starts, lengths: first slot and number of tokens of each row, on the device.
        longest: the largest length.
        first: true position of the first query; a query sees tokens up to its own position.
        scale: of the scores.
    """

    query: Float[Tensor, "rows groups queries dim"]
    lse: Float[Tensor, "rows groups queries"]
    keys: Float[Tensor, "slots dim"]
    positions: Int[Tensor, " slots"]
    starts: Int[Tensor, " rows"]
    lengths: Int[Tensor, " rows"]
    longest: int
    first: int
    scale: float
