"""LongBench: 21 tasks in English, Chinese and code, as its authors ask and score them.

Their prompts, typing errors included, and how long replies may be are in `longbench.json`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transfer.files import read_json
from transfer.tasks.benchmarks.data import Found, Published, Record, asked, records
from transfer.tasks.benchmarks.metrics import (
    chinese_f1,
    chinese_rouge_l,
    classified,
    code_similarity,
    rouge_l,
    share_of_numbers,
    word_f1,
)
from transfer.tasks.reading import ReadTask, Sample

_PUBLISHED = Published("THUDM/LongBench", ("data.zip",))
_ASKED: Mapping[str, Any] = read_json(Path(__file__).with_name("longbench.json"))
_METRICS: Mapping[str, Callable[[str, str], float]] = {
    **dict.fromkeys(
        ("narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "triviaqa"),
        word_f1,
    ),
    "multifieldqa_zh": chinese_f1,
    **dict.fromkeys(("gov_report", "qmsum", "multi_news", "samsum"), rouge_l),
    **dict.fromkeys(("dureader", "vcsum"), chinese_rouge_l),
    "passage_count": share_of_numbers,
    **dict.fromkeys(("lcc", "repobench-p"), code_similarity),
}
#: How the right paragraph is called; the reply only needs its number.
_PARAGRAPHS = {
    "passage_retrieval_en": re.compile(r"Paragraph (\d+)"),
    "passage_retrieval_zh": re.compile(r"段落(\d+)"),
}
#: One of so many classes or paragraphs.
_CHANCES = {
    "trec": 1 / 50,
    "lsht": 1 / 24,
    "passage_retrieval_en": 1 / 30,
    "passage_retrieval_zh": 1 / 30,
}
_CLASSES = ("trec", "lsht")
#: Whose prompts are examples to go on with: the first line of the reply counts.
_EXAMPLES = (*_CLASSES, "triviaqa", "samsum")


class LongBench(ReadTask):
    """One of the tasks.

    Attributes:
        subset: its name among them.
    """

    family = "longbench"
    #: Behind the name of a task's file.
    ending = ""

    def __init__(self, subset: str):
        self.subset = subset
        self.name = f"{self.family}/{subset}"
        self.new_tokens = _ASKED[subset]["new_tokens"]
        self.chat = subset not in (*_EXAMPLES, "lcc", "repobench-p")
        self.ends_at_newline = subset == "samsum"
        self.chance = _CHANCES.get(subset, 0.0)

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Found]:
        """As `ReadTask.samples`; every record has an `_id` of its own."""
        for record in records(data, self.subset + self.ending, _PUBLISHED, most, key="_id"):
            yield asked(record, self._sample)

    def _sample(self, record: Record) -> Sample:
        if record.fields.get("dataset") not in (None, self.subset, f"{self.subset}_e"):
            raise record.wrong(f"is of {record.fields['dataset']!r}, not {self.subset!r}")
        before, after = _ASKED[self.subset]["prompt"].split("{context}")
        return Sample(
            item=record.name("_id"),
            context=before + record.text("context"),
            question=after.replace("{input}", record.text("input")),
            answers=self._answers(record),
            groups=self.groups(record),
            facts={"classes": record.texts("all_classes")} if self.subset in _CLASSES else {},
        )

    def _answers(self, record: Record) -> tuple[str, ...]:
        answers = record.texts("answers")
        called = _PARAGRAPHS.get(self.subset)
        if called and not all(map(called.search, answers)):
            raise record.wrong(f"has answers that do not say which paragraph ({called.pattern})")
        return answers

    def groups(self, record: Record) -> Mapping[str, str]:
        """What a record's score is also reported by."""
        return {}

    def score(self, reply: str, sample: Sample) -> float:
        """The best over the answers."""
        if self.subset in _EXAMPLES:
            reply = reply.lstrip("\n").split("\n")[0]
        return max(self._score(reply, answer, sample) for answer in sample.answers)

    def _score(self, reply: str, answer: str, sample: Sample) -> float:
        if self.subset in _CLASSES:
            return classified(reply, answer, sample.facts["classes"])
        if called := _PARAGRAPHS.get(self.subset):
            return share_of_numbers(reply, called.findall(answer)[0])
        return _METRICS[self.subset](reply, answer)


TASKS = {task.name: task for task in map(LongBench, _ASKED)}
