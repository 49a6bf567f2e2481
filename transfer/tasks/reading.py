"""Tasks that a language model reads and replies to in words, and how a reply is scored.

A prompt is a context, which is read before anybody knows what will be asked, a question, and the
beginning of the reply. Tasks know neither models nor policies; of a tokenizer they only count.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sample:
    """One prompt, and what is right.

    The prompt is `context + question + prefix`; in a chat the last is how the assistant's turn
    begins.

    Attributes:
        item: what tells it from others of its task; its identity in the data, or its seed.
        context: what is read first: instructions that stand before the document, and the document.
        question: what comes after it.
        answers: all that are right; may be empty where the metric needs none.
        prefix: the beginning of the reply.
        groups: what the scores are also broken down by, such as `{"depth": "0.5"}`.
        facts: what else its metric needs.
        cluster: of samples that are not independent of each other, as they share a text or a seed;
            None: those that have the same context are.
    """

    item: str | int
    context: str
    question: str
    answers: tuple[str, ...]
    prefix: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    cluster: str | int | None = None


@dataclass(frozen=True)
class BrokenSample:
    """A record that cannot be asked about; it is counted, and the others are asked.

    Attributes:
        item: what it is called, such as its line.
        reason: a sentence.
    """

    item: str
    reason: str


class ReadingTask(ABC):
    """What is asked, and how a reply is scored.

    Attributes:
        name: as results have it, such as `longbench/qasper`.
        new_tokens: the most a reply may have, unless `longest_reply` says otherwise.
        chat: whether its authors ask through a model's chat template, where it has one.
        ends_at_newline: whether a reply is its first line, after one token at least.
        chance: score of who guesses; 0 where there is nothing to guess from.
        family: the benchmark over whose tasks a mean is reported; empty: none.
        reads_data: whether it looks at data of the user's.
    """

    name: str
    new_tokens: int
    chat: bool = False
    ends_at_newline: bool = False
    chance: float = 0.0
    family: str = ""
    reads_data: bool = True

    @abstractmethod
    def score(self, reply: str, sample: Sample) -> float:
        """From 0 to 1, by the authors' rule, their post-processing of the reply included.

        Args:
            reply: what was generated, without the sample's prefix and without special tokens.
            sample: what it replies to.
        """

    def answer(self, sample: Sample) -> str | None:
        """The reply whose likelihood is measured; None: no likelihood is."""
        return sample.answers[0] if sample.answers else None

    def longest_reply(self, sample: Sample) -> int:
        """The most tokens a reply may have."""
        return self.new_tokens

    def lacks(self, data: Path | None) -> bool:
        """Whether data that it cannot do without are missing; its family does without it then."""
        return False


class MadeTask(ReadingTask):
    """A task whose samples are made, at any length.

    Attributes:
        published: the same task of published records, which takes its place where data are given;
            None: there are none.
    """

    published: "ReadTask | None" = None

    @abstractmethod
    def samples(
        self,
        length: int,
        seeds: Sequence[int],
        tokenizer: "PreTrainedTokenizerBase",
        depths: Sequence[float] = (),
        data: Path | None = None,
        around: int = 0,
    ) -> Iterable[Sample]:
        """A sample for each seed, or for each seed and depth; each depends on its own alone.

        Args:
            length: the most tokens of prompt and reply together; the nominal one, which the
                authors' rules may depend on.
            seeds: from 0 up.
            tokenizer: of the model that is to read them.
            depths: shares of the text before what is asked about; none: the task's own choice.
            data: the user's own texts, for tasks that can take or need them.
            around: tokens that a prompt has beside its text, such as a chat template's; they are
                taken off the length.

        Raises:
            UserError: the length does not hold the task, or data are missing or of another layout.
        """


class ReadTask(ReadingTask):
    """A task whose samples are read from the data that its authors publish.

    Attributes:
        cut: how a prompt that is too long loses its middle: its halves decoded apart, or joined;
            None: it is refused.
    """

    cut: Literal["halves", "joined"] | None = "halves"

    @abstractmethod
    def samples(
        self, data: Path | None, most: int | None = None
    ) -> Iterable[Sample | BrokenSample]:
        """The samples in the order of the data, at most so many.

        Args:
            data: folder or file in the authors' layout; None: fetched from the Hub, as cached.
            most: the first so many; None: all.

        Raises:
            UserError: there are no such data, or they are damaged; file and line are named.
        """


def contains(reply: str, answer: str) -> bool:
    """Whether a reply has an answer in it, in whichever case; RULER's rule."""
    return answer.lower() in reply.lower()
