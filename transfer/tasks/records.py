"""Questions of the user's own, from a file of JSON lines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import UserError
from transfer.tasks.base import TokenBatch
from transfer.tasks.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Record:
    """A text that ends with a question, and the answer that is right."""

    prompt: str
    answer: str


def read_records(path: str | Path) -> list[Record]:
    """Read lines like `{"prompt": "... Question: ...? Answer:", "answer": "red"}`.

    Raises:
        UserError: the file is missing or empty, or a line is not of that form.
    """
    try:
        # Not `splitlines`: JSON may hold U+2028 and its like as they are.
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the task file {path} ({error}); check the path") from error
    records = [_record(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not records:
        raise UserError(f"the task file {path} is empty; give one JSON line for each question")
    return records


def encode_record(record: Record, tokenizer: "PreTrainedTokenizerBase") -> TokenBatch:
    """One question as a batch of one document, whose last tokens are the answer."""
    return TokenBatch.of([Text(tokenizer).open_question(record.prompt, record.answer)])


def _record(path: str | Path, number: int, line: str) -> Record:
    try:
        content = json.loads(line)
        prompt, answer = content["prompt"], content["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(path, number) from error
    if not all(isinstance(text, str) and text.strip() for text in (prompt, answer)):
        raise _malformed(path, number)
    return Record(prompt.rstrip(), answer.strip())


def _malformed(path: str | Path, number: int) -> UserError:
    return UserError(
        f"line {number} of the task file {path} is not a JSON object with texts 'prompt' and"
        " 'answer'; mend or delete it"
    )
