"""What every task of a language model comes down to: token ids, and which of them are answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

#: Documents with seeds below this are for evaluation and evolution; the shipped models were
#: trained on seeds from here up.
FIRST_TRAINING_SEED = 2**40


@dataclass(frozen=True)
class TokenBatch:
    """Documents of one length.

    Attributes:
        ids: token ids.
        answers: True where the token is (part of) an answer, to be predicted from the tokens
            before it. A run of True is one answer.
    """

    ids: Int[Tensor, "documents tokens"]
    answers: Bool[Tensor, "documents tokens"]

    @classmethod
    def of(cls, pieces: "Sequence[Piece]") -> "TokenBatch":
        """Documents of equal length, one a row."""
        return cls(
            torch.tensor([piece.ids for piece in pieces]),
            torch.tensor([piece.answers for piece in pieces]),
        )


@dataclass(frozen=True)
class Piece:
    """Some tokens of a document, and which of them are to be predicted."""

    ids: tuple[int, ...]
    answers: tuple[bool, ...]

    @classmethod
    def plain(cls, ids: Sequence[int]) -> "Piece":
        """Tokens without an answer."""
        return cls(tuple(ids), (False,) * len(ids))

    @classmethod
    def question(cls, ask: Sequence[int], answer: Sequence[int], end: Sequence[int]) -> "Piece":
        """A question, its answer and what ends it."""
        answers = (False,) * len(ask) + (True,) * len(answer) + (False,) * len(end)
        return cls((*ask, *answer, *end), answers)

    @classmethod
    def joined(cls, pieces: "Sequence[Piece]") -> "Piece":
        """Pieces one after the other."""
        ids = tuple(token for piece in pieces for token in piece.ids)
        return cls(ids, tuple(answer for piece in pieces for answer in piece.answers))

    def __len__(self) -> int:
        return len(self.ids)


#: What sentences are said as: tokens, or text.
Said = TypeVar("Said", covariant=True)


@runtime_checkable
class Phrases(Protocol[Said]):
    """How facts and distractors are said.

    Keys are numbers below `KEYS`, values below `VALUES`, noise words below `NOISE`, digits below
    `DIGITS`.
    """

    def fact(self, key: int, value: int) -> Said:
        """The key's value is this, from now on."""
        ...

    def decoy(self, key: int, value: int, noise: Sequence[int]) -> Said:
        """Key and value side by side, but stating nothing."""
        ...

    def passkey(self, digits: Sequence[int]) -> Said:
        """The pass key is this."""
        ...

    def noise(self, words: Sequence[int]) -> Said:
        """A sentence of noise words."""
        ...

    def prose(self, sentence: str) -> Said:
        """A sentence of real text."""
        ...


@runtime_checkable
class Language(Phrases[Piece], Protocol):
    """How whole documents are said as tokens: in symbols or in a tokenizer's text."""

    def begin(self) -> Piece:
        """What every document begins with."""
        ...

    def ask(self, key: int, value: int) -> Piece:
        """What is the key's value? This."""
        ...

    def ask_passkey(self, digits: Sequence[int]) -> Piece:
        """What is the pass key? This."""
        ...


KEYS, VALUES, NOISE, DIGITS = 32, 32, 48, 10
