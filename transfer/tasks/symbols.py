"""The language of the shipped tiny models: 128 symbols, one a token.

A fact is `FACT key value DOT`, a question `ASK key value DOT`; a pass key is `PASS digits DOT` and
its question `ASK PASS digits DOT`; a decoy is a key and a value inside noise.
"""

import zlib
from collections.abc import Sequence

from transfer.tasks.base import DIGITS, KEYS, NOISE, VALUES, Piece

PAD, BOS, FACT, ASK, DOT, PASS = range(6)
FIRST_DIGIT = 6
FIRST_KEY = FIRST_DIGIT + DIGITS
FIRST_VALUE = FIRST_KEY + KEYS
FIRST_NOISE = FIRST_VALUE + VALUES
VOCABULARY = FIRST_NOISE + NOISE


class Symbols:
    """Says documents in symbols."""

    def begin(self) -> Piece:
        """The first token."""
        return Piece.plain([BOS])

    def fact(self, key: int, value: int) -> Piece:
        """A fact."""
        return Piece.plain([FACT, FIRST_KEY + key, FIRST_VALUE + value, DOT])

    def decoy(self, key: int, value: int, noise: Sequence[int]) -> Piece:
        """The pair after the first word of a noise sentence."""
        first, *rest = [FIRST_NOISE + word for word in noise]
        return Piece.plain([first, FIRST_KEY + key, FIRST_VALUE + value, *rest, DOT])

    def passkey(self, digits: Sequence[int]) -> Piece:
        """A pass key."""
        return Piece.plain([PASS, *self._digits(digits), DOT])

    def ask(self, key: int, value: int) -> Piece:
        """A question, answered."""
        return Piece.question([ASK, FIRST_KEY + key], [FIRST_VALUE + value], [DOT])

    def ask_passkey(self, digits: Sequence[int]) -> Piece:
        """The question for the pass key, answered."""
        return Piece.question([ASK, PASS], self._digits(digits), [DOT])

    def noise(self, words: Sequence[int]) -> Piece:
        """A sentence of noise symbols."""
        return Piece.plain([*(FIRST_NOISE + word for word in words), DOT])

    def prose(self, sentence: str) -> Piece:
        """Words hashed to noise symbols: real text's rhythm in this vocabulary."""
        return self.noise([zlib.crc32(word.lower().encode()) % NOISE for word in sentence.split()])

    def _digits(self, digits: Sequence[int]) -> list[int]:
        return [FIRST_DIGIT + digit for digit in digits]
