"""Questions of the user's own, from a file of JSON lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.files import read_json_lines
from transfer.tasks.reading import ReadTask, Sample

#: Of a reply, beyond what the longest right one could have.
_MORE = 16
#: Of a script that puts spaces between words, which Thai, Chinese, Japanese and their like do not.
_LETTER = r"(?![\u0e00-\u1dff\u2e80-\U0010ffff])\w"
_FORM = '{"context": "...", "question": "...", "answer": "red"}'


@dataclass(frozen=True)
class Record:
    """A text, a question about it, and the answers that are right, one at least."""

    context: str
    question: str
    answers: tuple[str, ...]


class OwnQuestions(ReadTask):
    """A file of them; a reply is right that has one of the answers in it, as whole words.

    Long prompts are not cut.

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

    def samples(self, data: Path | None, most: int | None = None) -> Iterator[Sample]:
        """What is asked, by its place in the file."""
        for number, record in enumerate(self._records[:most]):
            yield Sample(number, record.context, record.question, record.answers)

    def longest_reply(self, sample: Sample) -> int:
        """Room for its longest right answer and some words around it."""
        # No token is shorter than a byte.
        return _MORE + max(len(answer.encode()) for answer in sample.answers)

    def score(self, reply: str, sample: Sample) -> float:
        """Whether a right answer is in the reply."""
        return float(any(has_words(reply, answer) for answer in sample.answers))


def has_words(reply: str, answer: str) -> bool:
    """Whether an answer is in a reply, in whichever case, and does not begin or end within a word.

    Args:
        reply: of any script; where words have no spaces between them any place will do.
        answer: not empty.
    """
    begin = f"(?<!{_LETTER})" if re.match(_LETTER, answer) else ""
    end = f"(?!{_LETTER})" if re.match(_LETTER, answer[-1]) else ""
    return re.search(f"{begin}{re.escape(answer)}{end}", reply, re.IGNORECASE) is not None


@typed
def read_records(path: str | Path) -> list[Record]:
    """Read lines like `{"context": "...", "question": "...?\\nAnswer:", "answer": "red"}`.

    In place of context and question there may be a `prompt`, whose last line is the question; an
    answer may be a list of several that are right.

    Raises:
        UserError: the file is missing or empty, or a line is not of that form.
    """
    lines = read_json_lines(path, lambda number, line: line)
    records = [
        _record(content, f"line {number} of the task file {path}")
        for number, content in lines.items()
    ]
    if not records:
        raise UserError(f"the task file {path} is empty; give one JSON line for each question")
    return records


def _record(content: Any, where: str) -> Record:
    if not isinstance(content, dict):
        raise UserError(f"{where} is no JSON object; give one like {_FORM}")
    said = content.get("answer")
    answers = said if isinstance(said, list) and said else [said]
    wanted = "a text, or a list of texts that are all right"
    right = tuple(_text(answer, "answer", where, wanted).strip() for answer in answers)
    if "prompt" not in content:
        context, question = (
            _text(content.get(name), name, where) for name in ("context", "question")
        )
        # Between them is a line's end, as in a prompt.
        return Record(context.rstrip() + "\n", question.strip(), right)
    if both := {"context", "question"} & set(content):
        raise UserError(
            f"{where} has both 'prompt' and '{min(both)}'; give either a prompt, whose last line is"
            " the question, or context and question"
        )
    prompt = _text(content["prompt"], "prompt", where)
    context, newline, question = prompt.rstrip().rpartition("\n")
    return Record(context + newline, question, right)


def _text(value: Any, name: str, where: str, wanted: str = "a text") -> str:
    if isinstance(value, str) and value.strip():
        return value
    said = "no" if value is None else f"{value!r:.60} as"
    raise UserError(f"{where} has {said} '{name}'; it is {wanted}: {_FORM}")
