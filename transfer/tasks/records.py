"""Questions of the user's own, from a file of JSON lines."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.files import read_json_lines
from transfer.tasks.base import TokenBatch
from transfer.tasks.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Record:
    """A text that ends with a question, and the answer that is right."""

    prompt: str
    answer: str


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


def encode_record(record: Record, tokenizer: "PreTrainedTokenizerBase") -> TokenBatch:
    """One question as a batch of one document, whose last tokens are the answer."""
    return TokenBatch.of([Text(tokenizer).open_question(record.prompt, record.answer)])


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
