"""Texts of the user's own: a file, or a folder of them."""

from pathlib import Path

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.files import read_text


@typed
def read_texts(path: str | Path) -> dict[str, str]:
    """Every text by its path within the folder; of a file alone, by its name.

    Hidden files are left out, and what Python compiled.

    Args:
        path: of a file, or of a folder, whose folders are looked through too.

    Raises:
        UserError: there is none, one is no text in UTF-8, or all are empty.
    """
    path = Path(path)
    if not path.is_dir():
        found = {path.name: read_text(path)}
    else:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        within = {file.relative_to(path): file for file in files}
        found = {name.as_posix(): read_text(file) for name, file in within.items() if _plain(name)}
    if not any(text.strip() for text in found.values()):
        raise UserError(f"{path} holds no text; name a file or folder of texts in UTF-8")
    return found


def _plain(name: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
