"""Decision Transformers that see: a picture embedded by convolutions, as those of Atari do.

The stock model has a weight for every number of a state, so what it learns of a thing in one place
of a picture it does not know in another. Only the embedding differs: the attention, which is all
that a cache sees, is the same.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import DecisionTransformerConfig, DecisionTransformerModel

#: Channels, kernel and stride of the convolutions: those of DQN (Mnih et al. 2015), which the Atari
#: Decision Transformer of Chen et al. (2021) has too.
_CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
#: Pixels a side, with which the last convolution gives one number a channel.
LEAST = 36


def is_picture(shape: Any) -> bool:
    """Whether it is the shape of a picture that the convolutions can take."""
    if not isinstance(shape, list | tuple) or len(shape) not in (2, 3):
        return False
    if any(type(length) is not int or length < 1 for length in shape):
        return False
    *_, sides = _layout(shape)
    return min(sides) >= LEAST


def _layout(shape: Sequence[int]) -> tuple[tuple[int, ...], int, list[int]]:
    """A shape of three axes, which of them has the channels, and the lengths of the other two.

    Of the outer two the shorter one has the channels.
    """
    axes = tuple(shape) if len(shape) == 3 else (*shape, 1)
    channels = 0 if axes[0] < axes[2] else 2
    return axes, channels, [length for axis, length in enumerate(axes) if axis != channels]


class PictureEmbedding(nn.Module):
    """Pictures laid out flat, `[..., numbers]`, to `[..., hidden]`.

    Args:
        shape: of a picture: `[height, width]`, and channels behind or before.
        hidden: numbers of an embedding.
    """

    def __init__(self, shape: Sequence[int], hidden: int) -> None:
        super().__init__()
        self._shape, self._channels, sides = _layout(shape)
        channels = self._shape[self._channels]
        layers: list[nn.Module] = []
        for given, kernel, stride in _CONVOLUTIONS:
            layers += [nn.Conv2d(channels, given, kernel, stride), nn.ReLU()]
            channels, sides = given, [(side - kernel) // stride + 1 for side in sides]
        linear = nn.Linear(channels * sides[0] * sides[1], hidden)
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear)

    def forward(self, states: Float[Tensor, "*batch numbers"]) -> Float[Tensor, "*batch hidden"]:
        """The embeddings."""
        pictures = states.reshape(-1, *self._shape).movedim(1 + self._channels, 1)
        return self.layers(pictures).unflatten(0, states.shape[:-1])


class PictureDecisionTransformerModel(DecisionTransformerModel):
    """The stock model with this embedding; `config.picture` is the shape of a picture.

    It predicts no states, of which nothing here has a use: `state_preds` are hidden states.
    """

    def __init__(self, config: DecisionTransformerConfig) -> None:
        super().__init__(config)
        self.embed_state = PictureEmbedding(config.picture, config.hidden_size)
        self.predict_state = nn.Identity()
        self.post_init()
