"""The needle in a haystack: gkamradt's grid of lengths and depths, as papers on eviction run it.

The needle stands in essays at a share of their tokens, moved back to behind a full stop. A model
goes on from `The best thing to do in San Francisco is: `; its first line, of 30 tokens at most, is
compared with the needle by ROUGE-1. As the needle begins with the question's words, which no good
reply repeats, the needle's own words score .73.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import UserError
from transfer.tasks.benchmarks.extra import needed
from transfer.tasks.benchmarks.haystack import haystack
from transfer.tasks.benchmarks.sizing import too_short
from transfer.tasks.reading import MadeTask, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEEDLE = (
    "\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny "
    "day.\n"
)
QUESTION = "The best thing to do in San Francisco is: "
DEPTHS = tuple(step / 10 for step in range(11))
#: Tokens of the length that are left to question and reply.
_BUFFER = 200


@dataclass(frozen=True)
class Haystack:
    """A text as tokens, and where sentences begin in it.

    Args:
        ids: of the text.
        starts: places behind a full stop, in order; 0 is the first.
    """

    ids: Sequence[int]
    starts: Sequence[int]

    @classmethod
    def read(cls, data: Path | None, tokenizer: "PreTrainedTokenizerBase") -> "Haystack":
        """The user's text, by default plain prose.

        Raises:
            UserError: there is none, or it has no full stops or no tokens that are some.
        """
        text = f"{haystack(data).strip()}\n"
        ids = _encoded(tokenizer, text)
        stops = {token for token in set(ids) if _decoded(tokenizer, [token]).strip() == "."}
        starts = [at + 1 for at, token in enumerate(ids) if token in stops]
        if not starts and "." in text:
            raise UserError(
                "the tokenizer has no token for the full stops of the text, behind which a needle "
                "is put; use a model whose tokenizer reads English"
            )
        if not starts:
            raise UserError(
                f"the text of {data} has no full stop, behind which a needle could be put; give "
                "prose in sentences with --data"
            )
        return cls(ids, [0, *starts])

    def turned(self, start: int, tokens: int) -> "Haystack":
        """So many tokens from a place on; after its end the text comes again."""
        repeats = (start + tokens) // len(self.ids) + 1
        ids = (list(self.ids) * repeats)[start : start + tokens]
        later = (at + len(self.ids) * turn - start for turn in range(repeats) for at in self.starts)
        return Haystack(ids, [0, *(at for at in later if 0 < at < tokens)])

    def with_needle(self, needle: Sequence[int], depth: float) -> list[int]:
        """The tokens with a needle at a share of them, at the end for 1."""
        place = int(len(self.ids) * depth)
        if depth < 1:
            place = self.starts[bisect_right(self.starts, place) - 1]
        return [*self.ids[:place], *needle, *self.ids[place:]]


class NeedleGrid(MadeTask):
    """One needle; a score for each depth, in units of 1 where papers have 10."""

    name = "niah"
    new_tokens = 30
    chat = True
    ends_at_newline = True

    def samples(
        self,
        length: int,
        seeds: Sequence[int],
        tokenizer: "PreTrainedTokenizerBase",
        depths: Sequence[float] = (),
        data: Path | None = None,
        around: int = 0,
    ) -> Iterator[Sample]:
        """A sample for each seed and depth, by default eleven depths; see `MadeTask`.

        The text of seed 0 starts at its beginning, that of others at some sentence.

        Raises:
            UserError: the length does not hold the needle, there is no text or no full stop in it,
                or the package that scores is not installed.
        """
        _scorer()
        needle = _encoded(tokenizer, NEEDLE)
        room = length - around - _BUFFER - len(needle)
        if room < 1:
            raise too_short(self, length, length - room + 1)
        text = Haystack.read(data, tokenizer)
        for seed in seeds:
            start = random.Random(f"{self.name}/{seed}").choice(text.starts) if seed else 0
            turned = text.turned(start, room)
            for depth in depths or DEPTHS:
                told = _decoded(tokenizer, turned.with_needle(needle, depth))
                yield _sample(seed, told, depth)

    def score(self, reply: str, sample: Sample) -> float:
        """ROUGE-1 F of the reply against the needle, by the stems of words."""
        said = reply.strip()
        return _scorer().score(sample.answers[0], said)["rouge1"].fmeasure if said else 0.0

    def answer(self, sample: Sample) -> str:
        """What the needle says is the best thing."""
        return f" {sample.answers[0].partition(' is ')[2]}"


def _sample(seed: int, told: str, depth: float) -> Sample:
    return Sample(
        f"{seed}@{depth:g}",
        f"This is a very long story book: <book> {told} </book>.\n ",
        f"Based on the content of the book, Question: {QUESTION}\n",
        (NEEDLE.strip(),),
        "Answer:",
        {"depth": f"{depth:g}"},
        cluster=seed,
    )


def _encoded(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _decoded(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


@cache
def _scorer() -> Any:
    return needed("rouge_score.rouge_scorer").RougeScorer(["rouge1"], use_stemmer=True)


TASKS = {"niah": NeedleGrid()}
