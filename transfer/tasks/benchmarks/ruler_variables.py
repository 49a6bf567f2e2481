"""RULER's variable tracking: which variables got a value, directly or by another?"""

import random
import string
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.tasks.benchmarks.ruler_base import Maker, RulerTask
from transfer.tasks.benchmarks.ruler_needles import NOISE
from transfer.tasks.benchmarks.sizing import count_tokens, most_pieces
from transfer.tasks.reading import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HOPS = 4
#: The most tokens of the solved example, and letters of variables in it and in the text.
_EXAMPLE, _SHORT, _LONG = 500, 3, 5


@dataclass(frozen=True)
class Variables(RulerTask):
    """One chain of assignments in noise, after a solved example."""

    name: str = "ruler/vt"

    new_tokens = 30
    least = _HOPS + 1

    def maker(
        self, length: int, tokenizer: "PreTrainedTokenizerBase", data: Path | None, around: int
    ) -> Maker:
        """See `RulerTask`; data are not used."""

        def tokens(lines: int) -> int:
            return count_tokens(tokenizer, _example(random.Random(self.name), lines))

        # All examples have as many lines, whatever their names.
        lines = most_pieces(tokens, self.least, _EXAMPLE, tokens(self.least))
        return partial(self._made, lines)

    def _made(self, example_lines: int, seed: int, depth: float | None, size: int) -> Sample:
        rng = self.random(seed)
        example = _example(rng, example_lines)
        context, question, prefix, names = _problem(rng, size, _LONG)
        return Sample(seed, f"{example}\n\n{context}", question, tuple(names), prefix)

    def answer(self, sample: Sample) -> str:
        """The variables in the order of their chain, as in the example."""
        return f" {' '.join(sample.answers)}"


def _example(rng: random.Random, lines: int) -> str:
    *said, names = _problem(rng, lines, _SHORT)
    return f"{''.join(said)} {' '.join(names)}"


def _problem(rng: random.Random, size: int, letters: int) -> tuple[str, str, str, list[str]]:
    """Context, question, answer prefix, and the variables that are right."""
    names: dict[str, None] = {}
    while len(names) <= _HOPS:
        names["".join(rng.choices(string.ascii_uppercase, k=letters))] = None
    chain, value = list(names), str(rng.randrange(10_000, 99_999))
    lines = [NOISE] * size
    statements = [f"VAR {chain[0]} = {value}"]
    statements += [f"VAR {new} = VAR {old} " for old, new in pairwise(chain)]
    places = sorted(rng.sample(range(size), len(statements)))
    for earlier, (place, statement) in enumerate(zip(places, statements)):
        lines.insert(place + earlier, statement)
    text = "\n".join(lines)
    return (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
        f"{text}\n",
        f"Question: Find all variables that are assigned the value {value} in the text above.",
        " Answer: According to the chain(s) of variable assignment in the text above, "
        f"{len(chain)} variables are assigned the value {value}, they are: ",
        chain,
    )
