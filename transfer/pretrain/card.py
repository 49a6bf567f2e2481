"""The card of a trained model: its sections are data, and written here."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transfer.files import replacing
from transfer.provenance import versions


def write_sections(
    folder: Path,
    introduction: Sequence[str],
    sections: Mapping[str, Sequence[str]],
    packages: Sequence[str],
) -> None:
    """Write `CARD.md`.

    Args:
        folder: of the model, whose name is the title.
        introduction: paragraphs, tables and commands.
        sections: the same under each heading.
        packages: whose versions could have changed the model.
    """
    found = ", ".join(f"{name} {version}" for name, version in versions(packages).items())
    parts = [f"# {folder.name}", *introduction]
    for heading, blocks in (*sections.items(), ("Versions", (paragraph(f"{found}."),))):
        parts += [f"## {heading}", *blocks]
    with replacing(folder / "CARD.md") as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def paragraph(text: str) -> str:
    """Prose, in lines of the usual length."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def command(text: str) -> str:
    """A command line."""
    return f"```\n{text}\n```"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])
