"""RULER's questions about documents: SQuAD and HotpotQA, from their authors' files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import UserError
from transfer.files import read_json
from transfer.tasks.benchmarks.ruler_base import (
    Maker,
    RulerTask,
    contained,
    depth_group,
    item_name,
)
from transfer.tasks.reading import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TASK = (
    "Answer the question based on the given documents. Only give me the answer and do not output "
    "any other words."
)


@dataclass(frozen=True)
class Asked:
    """A question.

    Args:
        query: its words.
        answers: all that are right.
        documents: those that say it.
        near: others of the same article, the first distractors.
    """

    query: str
    answers: tuple[str, ...]
    documents: tuple[str, ...]
    near: tuple[str, ...] = ()


def squad(content: Any) -> Iterator[Asked]:
    """The questions of SQuAD that have an answer."""
    for article in content["data"]:
        contexts = _texts(paragraph["context"] for paragraph in article["paragraphs"])
        for own, paragraph in zip(contexts, article["paragraphs"]):
            near = tuple(dict.fromkeys(other for other in contexts if other != own))
            for asked in paragraph["qas"]:
                if not asked["is_impossible"]:
                    answers = _texts(answer["text"] for answer in asked["answers"])
                    [query] = _texts([asked["question"]])
                    yield Asked(query, answers, (own,), near)


def hotpotqa(content: Any) -> Iterator[Asked]:
    """The questions of HotpotQA with their ten paragraphs each."""
    for record in content:
        told = (f"{title}\n{''.join(lines)}" for title, lines in record["context"])
        query, answer = _texts([record["question"], record["answer"]])
        yield Asked(query, (answer,), tuple(dict.fromkeys(_texts(told))))


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    """The values, if there are some and all are texts; else ValueError."""
    found = tuple(values)
    for value in found or (None,):
        if not (isinstance(value, str) and value.strip()):
            raise ValueError(f"{value!r} is no text")
    return found


@dataclass(frozen=True)
class Questions(RulerTask):
    """A question about a document among others.

    Args:
        name: of the task.
        source: of the questions.
        files: names of the file in a folder: its authors', and RULER's.
        read: the questions of its content.
    """

    name: str
    source: str
    files: tuple[str, str]
    read: Callable[[Any], Iterator[Asked]]

    new_tokens = 32
    deep = True
    # Documents beside the question's own.
    least = 0

    def lacks(self, data: Path | None) -> bool:
        """See `ReadingTask`; a file alone is known by its name."""
        return data is None or self._file(data) is None

    def maker(
        self, length: int, tokenizer: "PreTrainedTokenizerBase", data: Path | None, around: int
    ) -> Maker:
        """See `RulerTask`; the data are a file of the authors, or a folder with it."""
        path = self._path(data)
        questions = self._questions(path)
        documents = {text for asked in questions for text in (*asked.documents, *asked.near)}
        return partial(self._made, path, questions, sorted(documents))

    def _made(
        self,
        path: Path,
        questions: Sequence[Asked],
        documents: Sequence[str],
        seed: int,
        depth: float | None,
        size: int,
    ) -> Sample:
        if seed >= len(questions):
            raise UserError(
                f"{path} has {len(questions)} questions, and number {seed} from 0 is asked for; "
                "use fewer --documents or a smaller --seed"
            )
        asked, rng = questions[seed], self.random(seed)
        near = rng.sample(asked.near, len(asked.near))
        known = {*asked.documents, *near}
        far = [document for document in documents if document not in known]
        rng.shuffle(far)
        if not near and not far:
            raise UserError(f"{path} has no documents beside those of a question; give more")
        # In a longer text than there are documents for they come again.
        texts = list(islice(cycle([*near, *far]), size))
        own = list(asked.documents)
        if depth is None:
            texts += own
            rng.shuffle(texts)
        else:
            rng.shuffle(texts)
            at = int(depth * len(texts))
            texts[at:at] = own
        told = "\n\n".join(f"Document {at}:\n{text}" for at, text in enumerate(texts, 1))
        return Sample(
            item_name(seed, depth),
            f"{_TASK}\n\nThe following are given documents.\n\n{told}\n\n",
            f"{_TASK}\n\nQuestion: {asked.query}",
            asked.answers,
            " Answer:",
            depth_group(depth),
        )

    def score(self, reply: str, sample: Sample) -> float:
        """Whether the reply contains one of the answers, in whatever case."""
        return float(any(contained(reply, sample.answers)))

    def answer(self, sample: Sample) -> str:
        """The first of those that are right."""
        return f" {sample.answers[0]}"

    def _path(self, data: Path | None) -> Path:
        theirs, rulers = self.files
        wanted = f"{theirs} of its authors (or {rulers}, as RULER's script names it)"
        if data is None:
            raise UserError(
                f"{self.name} asks about {self.source}, which cannot be shipped; give {wanted}, or "
                "a folder with it, with --data"
            )
        if not data.is_dir():
            return data
        if file := self._file(data):
            return file
        raise UserError(f"the folder {data} has no questions for {self.name}; put {wanted} there")

    def _file(self, data: Path) -> Path | None:
        """What has a name of the file, in a folder or alone."""
        known = [data / name for name in self.files] if data.is_dir() else [data]
        return next((p for p in known if p.name in self.files and p.is_file()), None)

    def _questions(self, path: Path) -> list[Asked]:
        content, found = read_json(path), []
        try:
            for asked in self.read(content):
                found.append(asked)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"question {len(found)} from 0 of {path} is not in the layout of {self.source} "
                f"({type(error).__name__}: {error}); give {self.files[0]} as it is published"
            ) from error
        if not found:
            raise UserError(f"{path} has no questions; give {self.files[0]} as it is published")
        return found


QUESTIONS = (
    Questions("ruler/qa_1", "SQuAD", ("dev-v2.0.json", "squad.json"), squad),
    Questions(
        "ruler/qa_2", "HotpotQA", ("hotpot_dev_distractor_v1.json", "hotpotqa.json"), hotpotqa
    ),
)
