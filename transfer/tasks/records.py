"""Questions of the user's own, from a file of JSON lines or of one JSON list."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.files import read_json, read_json_lines
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

    A file whose name ends in `.json` has a list of them instead.

    Raises:
        UserError: the file is missing or empty, or a line is not of that form.
    """
    if Path(path).suffix == ".json":
        unit, found = "record", _listed(path)
    else:
        unit, found = "line", read_json_lines(path, lambda number, line: line)
    records = [_record(path, f"{unit} {number}", content) for number, content in found.items()]
    if not records:
        raise UserError(f"the task file {path} is empty; give one JSON line for each question")
    return records


def _listed(path: str | Path) -> dict[int, Any]:
    """The records of a JSON list, counted from 1."""
    content = read_json(path)
    if not isinstance(content, list):
        raise UserError(
            f"the task file {path} is no JSON list; write one of records, or a record a line into a"
            " file that ends in .jsonl"
        )
    return dict(enumerate(content, 1))


def _record(path: str | Path, which: str, content: Any) -> Record:
    fields = content if isinstance(content, dict) else {}
    prompt, answer = fields.get("prompt"), fields.get("answer")
    for text in (prompt, answer):
        if not (isinstance(text, str) and text.strip()):
            raise UserError(
                f"{which} of the task file {path} is not a JSON object with texts 'prompt'"
                " and 'answer'; mend or delete it"
            )
    return Record(str(prompt).rstrip(), str(answer).strip())
