"""Questions of the user's own, from a file of JSON lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.files import read_json_lines
from transfer.tasks.reading import ReadTask, Sample, contains

#: Of a reply, beyond what the longest right one could have.
_MORE = 16


@dataclass(frozen=True)
class Record:
    """A text that ends with a question, and the answer that is right."""

    prompt: str
    answer: str


class OwnQuestions(ReadTask):
    """A file of them; a reply is right that has the answer in it. Long prompts are not cut.

    Args:
        path: of the file.

    Raises:
        UserError: as `read_records`.
    """

    cut = None
    reads_data = False

    def __init__(self, path: str) -> None:
        self.name = path
        self._records = read_records(path)
        # No token is shorter than a byte.
        self.new_tokens = _MORE + max(len(record.answer.encode()) for record in self._records)

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Sample]:
        """What is asked, by its place in the file."""
        for number, record in enumerate(self._records[:most]):
            context, newline, question = record.prompt.rpartition("\n")
            yield Sample(number, context + newline, question, (record.answer,))

    def score(self, reply: str, sample: Sample) -> float:
        """Whether the right answer is in the reply."""
        return float(contains(reply, sample.answers[0]))


@typed
def read_records(path: str | Path) -> list[Record]:
    """Read lines like `{"prompt": "... Question: ...? Answer:", "answer": "red"}`.

    Raises:
        UserError: the file is missing or empty, or a line is not of that form.
    """
    lines = read_json_lines(path, lambda number, line: line)
    records = [_record(path, number, content) for number, content in lines.items()]
    if not records:
        raise UserError(f"the task file {path} is empty; give one JSON line for each question")
    return records


def _record(path: str | Path, number: int, content: Any) -> Record:
    fields = content if isinstance(content, dict) else {}
    prompt, answer = fields.get("prompt"), fields.get("answer")
    for text in (prompt, answer):
        if not (isinstance(text, str) and text.strip()):
            raise UserError(
                f"line {number} of the task file {path} is not a JSON object with texts 'prompt'"
                " and 'answer'; mend or delete it"
            )
    return Record(str(prompt).rstrip(), str(answer).strip())
