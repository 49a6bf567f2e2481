"""What RULER's tasks have in common: how samples are named and sized, and how replies are scored.

The rules are those of NVIDIA/RULER at c3f5e3b: templates of base models, and for each task the
answer prefix that a reply goes on from.
"""

import random
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import UserError
from transfer.tasks.benchmarks.sizing import count_with_reply, fitted, too_short
from transfer.tasks.reading import MadeTask, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Of a seed, a depth and a number of pieces.
Maker = Callable[[int, float | None, int], Sample]


class RulerTask(MadeTask):
    """One of the thirteen.

    Attributes:
        least: the fewest pieces of text of a sample.
        deep: whether what is asked about can be put at a depth.
    """

    family = "ruler"
    least: int = 1
    deep: bool = False

    def samples(
        self,
        length: int,
        seeds: Sequence[int],
        tokenizer: "PreTrainedTokenizerBase",
        depths: Sequence[float] = (),
        data: Path | None = None,
        around: int = 0,
    ) -> Iterator[Sample]:
        """A sample for each seed, or for each seed and depth; see `MadeTask`.

        Raises:
            UserError: the length does not hold the task, data are missing or of another layout, or
                the task has no depth.
        """
        if depths and not self.deep:
            raise UserError(
                f"{self.name} asks about what stands all over its text, which has no depth; leave "
                "--depth out"
            )
        make = self.maker(length, tokenizer, data, around)
        count = partial(count_with_reply, tokenizer, self)
        for seed in seeds:
            for depth in depths or (None,):
                found = fitted(partial(make, seed, depth), count, self.least, length - around)
                if found is None:
                    needed = self._least_length(length, seed, depth, tokenizer, data, around)
                    raise too_short(self, length, needed)
                yield replace(found, cluster=seed)

    def _least_length(
        self,
        length: int,
        seed: int,
        depth: float | None,
        tokenizer: "PreTrainedTokenizerBase",
        data: Path | None,
        around: int,
    ) -> int:
        """The least from `length` on that holds a sample, whose rules may depend on it."""
        sample = self.maker(length, tokenizer, data, around)(seed, depth, self.least)
        needed = count_with_reply(tokenizer, self, sample) + around
        if needed <= length:
            return length
        return self._least_length(needed, seed, depth, tokenizer, data, around)

    @abstractmethod
    def maker(
        self, length: int, tokenizer: "PreTrainedTokenizerBase", data: Path | None, around: int
    ) -> Maker:
        """What makes the samples of a length, with the data read; arguments are those of `samples`.

        Raises:
            UserError: data are missing or of another layout.
        """

    def random(self, seed: int) -> random.Random:
        """What decides a sample: of the task and the seed alone."""
        return random.Random(f"{self.name}/{seed}")

    def score(self, reply: str, sample: Sample) -> float:
        """The share of the answers that the reply contains, in whatever case."""
        found = contained(reply, sample.answers)
        return sum(found) / len(found)

    def answer(self, sample: Sample) -> str:
        """All answers in their order, as a reply after the prefix."""
        return f" {', '.join(sample.answers)}"


def contained(reply: str, answers: Sequence[str]) -> list[bool]:
    """Which of the answers a reply contains, in whatever case."""
    said = re.sub(r"[\x00-\x1f]", "\n", reply.strip()).strip().lower()
    return [answer.lower() in said for answer in answers]


def item_name(seed: int, depth: float | None) -> str | int:
    """What tells a sample from others of its task."""
    return seed if depth is None else f"{seed}@{depth:g}"


def depth_group(depth: float | None) -> dict[str, str]:
    """The groups of a sample."""
    return {} if depth is None else {"depth": f"{depth:g}"}
