"""ChouBun: questions on long Japanese documents, and their summaries.

Words are those of MeCab, as fugashi cuts them.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from transfer.files import read_json
from transfer.tasks.benchmarks.data import Found, Published, Record, asked, records
from transfer.tasks.benchmarks.extra import needed
from transfer.tasks.benchmarks.metrics import bare_tokens, rouge_l, token_f1
from transfer.tasks.reading import ReadTask, Sample

FAMILY = "choubun"
REPOSITORY = "SakanaAI/ChouBun"


def japanese_words(text: str) -> list[str]:
    """A text cut into words, without the spaces between them.

    Raises:
        UserError: fugashi or its dictionary is not installed.
    """
    return [word.surface for word in _cutter()(text)]


@cache
def _cutter() -> Callable[[str], Any]:
    needed("unidic_lite")
    return needed("fugashi").Tagger("-Owakati")


def japanese_f1(reply: str, gold: str) -> float:
    """`token_f1` of the `bare_tokens` of Japanese texts.

    Raises:
        UserError: fugashi or its dictionary is not installed.
    """
    return token_f1(bare_tokens(japanese_words(reply)), bare_tokens(japanese_words(gold)))


def japanese_rouge_l(reply: str, gold: str) -> float:
    """`rouge_l` of the words of Japanese texts.

    Raises:
        UserError: fugashi, its dictionary or rouge is not installed.
    """
    return rouge_l(" ".join(japanese_words(reply)), " ".join(japanese_words(gold)))


class ChouBun(ReadTask):
    """One of the four."""

    family = FAMILY

    def __init__(self, kind: str, new_tokens: int, prompt: str) -> None:
        self.kind, self.name, self.new_tokens = kind, f"{FAMILY}/{kind}", new_tokens
        self.before, _, self.after = prompt.partition("{context}")
        self.metric = japanese_f1 if "{input}" in prompt else japanese_rouge_l

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Found]:
        """See `ReadTask`."""
        published = Published(REPOSITORY, (f"{self.kind}/test-*.parquet",))
        for record in records(data, self.kind, published, most, key="_id"):
            yield asked(record, self._sample)

    def _sample(self, record: Record) -> Sample:
        what = record.text("input") if "{input}" in self.after else ""
        context = f"{self.before}{record.text('context')}"
        question = self.after.replace("{input}", what)
        return Sample(record.name("_id"), context, question, record.texts("answers"))

    def score(self, reply: str, sample: Sample) -> float:
        """Best over the answers."""
        return max(self.metric(reply, answer) for answer in sample.answers)


def _tasks() -> dict[str, ChouBun]:
    forms = read_json(Path(__file__).with_suffix(".json"))
    tasks = (ChouBun(kind, **form) for kind, form in forms.items())
    return {task.name: task for task in tasks}


TASKS = _tasks()
