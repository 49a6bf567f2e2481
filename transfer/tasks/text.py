"""The same documents as text, for any Hugging Face language model with its tokenizer.

Sentences end with a line break and are tokenized one by one, so that a document has exactly the
tokens asked for, and it is known which of them are the answers.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from transfer.errors import UserError
from transfer.tasks import english
from transfer.tasks.base import Language, Piece
from transfer.tasks.symbols import VOCABULARY, Symbols

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: Of a token, where there are many.
_CHARACTERS = 8


def language_for(tokenizer: "PreTrainedTokenizerBase | None", vocabulary: int) -> Language:
    """The language a model reads: its tokenizer's text, or symbols if it has no tokenizer.

    Args:
        tokenizer: of the model.
        vocabulary: size of the model's vocabulary.

    Raises:
        UserError: no tokenizer, and a vocabulary that is not that of the symbols.
    """
    if tokenizer is not None:
        return Text(tokenizer)
    if vocabulary != VOCABULARY:
        raise UserError(
            f"the model has no tokenizer and {vocabulary} tokens, not the {VOCABULARY} symbols of"
            " the shipped recall models; save its tokenizer in the model's folder"
        )
    return Symbols()


def check_text(text: str, tokenizer: "PreTrainedTokenizerBase", positions: int, what: str) -> None:
    """Refuse a text that is longer than a model's positions, without reading it to its end.

    Raises:
        UserError: it has more tokens.
    """
    part = _CHARACTERS * positions
    while part < len(text):
        if len(tokenizer.encode(text[:part], add_special_tokens=False)) > positions:
            raise UserError(
                f"{what} of {len(text):,} characters has more than the {positions} tokens that the "
                "model has positions for; shorten it"
            )
        part *= _CHARACTERS


class Text:
    """Says documents in English, as the token ids of a tokenizer.

    Args:
        tokenizer: of the model that is to read them.

    Raises:
        UserError: the tokenizer makes nothing of plain English.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        unknown = tokenizer.unk_token_id
        if not self._ids(english.PREAMBLE) or unknown in self._ids(" ".join(english.NOISE_WORDS)):
            raise UserError(
                f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} cannot spell"
                " plain English words; use one that can"
            )

    def begin(self) -> Piece:
        """The tokenizer's first token, if it has one, and what the document is about."""
        return Piece.joined([self._first(), self._sentence(english.PREAMBLE)])

    def fact(self, key: int, value: int) -> Piece:
        """A fact."""
        return self._sentence(english.fact(key, value))

    def decoy(self, key: int, value: int, noise: Sequence[int]) -> Piece:
        """Key and value in a sentence of noise."""
        return self._sentence(english.decoy(key, value, noise))

    def passkey(self, digits: Sequence[int]) -> Piece:
        """A pass key."""
        return self._sentence(english.passkey(digits))

    def ask(self, key: int, value: int) -> Piece:
        """A question, answered."""
        asked = f"Question: What is the colour of the {english.KEY_WORDS[key]}? Answer:"
        return self._question(asked, english.VALUE_WORDS[value])

    def ask_passkey(self, digits: Sequence[int]) -> Piece:
        """The question for the pass key, answered."""
        return self._question("Question: What is the pass key? Answer:", english.number(digits))

    def noise(self, words: Sequence[int]) -> Piece:
        """A sentence of noise words."""
        return self._sentence(english.noise(words))

    def prose(self, sentence: str) -> Piece:
        """A sentence as it is."""
        return self._sentence(sentence)

    def _first(self) -> Piece:
        first = self.tokenizer.bos_token
        return Piece.plain(self._ids(str(first)) if first else [])

    def _sentence(self, text: str) -> Piece:
        return Piece.plain(self._ids(f"{text}\n"))

    def _question(self, asked: str, answer: str) -> Piece:
        """The answer's tokens are those that its text adds to the question's."""
        answered = self._ids(f"{asked} {answer}")
        pairs = zip(self._ids(asked), answered)
        # short of the whole question where the tokenizer joins its end with the answer
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return Piece.question(answered[:common], answered[common:], self._ids("\n"))

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)
