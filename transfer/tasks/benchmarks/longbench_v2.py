"""LongBench v2: one task, questions with four choices about up to two million words.

Asked as its authors do without reasoning before the answer.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from transfer.tasks.benchmarks.data import Found, Published, Record, asked, records
from transfer.tasks.reading import ReadTask, Sample

_PUBLISHED = Published("THUDM/LongBench-v2", ("data.json",))
_CONTEXT = "Please read the following text and answer the question below.\n\n<text>\n$DOC$"
_QUESTION = """
</text>

What is the correct answer to this question: $Q$
Choices:
(A) $C_A$
(B) $C_B$
(C) $C_C$
(D) $C_D$

Format your response as follows: "The correct answer is (insert answer here)"."""
#: The fields of a record by the marks that stand for them, in the authors' order.
_MARKS = {
    "$DOC$": "context",
    "$Q$": "question",
    "$C_A$": "choice_A",
    "$C_B$": "choice_B",
    "$C_C$": "choice_C",
    "$C_D$": "choice_D",
}
_ANSWER = re.compile(r"The correct answer is \(([A-D])\)")
_BARE_ANSWER = re.compile(r"The correct answer is ([A-D])")


class LongBenchV2(ReadTask):
    """All of its questions; scores are also reported by difficulty and length."""

    name = "longbench-v2"
    new_tokens = 128
    chat = True
    chance = 0.25
    cut = "joined"

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Found]:
        """As `ReadTask.samples`; every record has an `_id` of its own."""
        for record in records(data, "data", _PUBLISHED, most, key="_id"):
            yield asked(record, self._sample)

    def _sample(self, record: Record) -> Sample:
        return Sample(
            item=record.name("_id"),
            context=_filled(_CONTEXT, record),
            question=_filled(_QUESTION, record),
            answers=(record.one_of("answer", tuple("ABCD")),),
            groups={
                "difficulty": record.one_of("difficulty", ("easy", "hard")),
                "length": record.one_of("length", ("short", "medium", "long")),
            },
        )

    def score(self, reply: str, sample: Sample) -> float:
        """1 for the right letter in the form asked for, asterisks and brackets aside."""
        plain = reply.strip().replace("*", "")
        found = _ANSWER.search(plain) or _BARE_ANSWER.search(plain)
        return float(found is not None and found[1] == sample.answers[0])

    def answer(self, sample: Sample) -> str:
        """The right letter in the form asked for."""
        return f"The correct answer is ({sample.answers[0]})"


def _filled(text: str, record: Record) -> str:
    # One after the other, as the authors do: a mark within the document is filled in as well.
    for mark, name in _MARKS.items():
        text = text.replace(mark, record.text(name).strip())
    return text


TASKS = {LongBenchV2.name: LongBenchV2()}
