"""The texts that needles are hidden in: the user's own, else prose that is on every machine.

RULER and the needle grid are published with the essays of Paul Graham, which cannot be shipped.
"""

from pathlib import Path

from transfer.errors import UserError
from transfer.files import read_json_object, read_text
from transfer.tasks.prose import sentences

#: As RULER's own script writes them, in an object with their `text`.
ESSAYS_FILE = "PaulGrahamEssays.json"
_SUFFIXES = (".txt", ".md")


def haystack(data: Path | None) -> str:
    """One text, not empty: files joined in the order of their names; by default plain prose.

    Args:
        data: a file, or a folder with RULER's file of essays or with .txt and .md files.

    Raises:
        UserError: there are no such files, or nothing is in them.
    """
    if data is None:
        return " ".join(sentences())
    files = essays(data)
    if not files:
        raise UserError(
            f"the folder {data} has no essays to hide needles in: neither {ESSAYS_FILE} nor .txt or"
            " .md files; put some there, or leave --data out for plain prose"
        )
    text = "\n".join(map(_text, files))
    if not text.strip():
        raise UserError(f"there is no text in {data}; give essays as .txt or .md files with --data")
    return text


def essays(data: Path) -> list[Path]:
    """The files that `haystack` joins; none: a folder has none."""
    if not data.is_dir():
        return [data]
    if (data / ESSAYS_FILE).is_file():
        return [data / ESSAYS_FILE]
    return sorted(path for path in data.iterdir() if path.suffix.lower() in _SUFFIXES)


def _text(path: Path) -> str:
    if path.suffix.lower() != ".json":
        return read_text(path)
    text = read_json_object(path).get("text")
    if not isinstance(text, str):
        raise UserError(
            f"{path} has no 'text' of essays, as {ESSAYS_FILE} of RULER has; give that file, or "
            ".txt or .md files"
        )
    return text
