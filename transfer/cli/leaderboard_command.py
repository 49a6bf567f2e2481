"""`transfer leaderboard`: a page and a table of the results that are published."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from transfer.arguments import check_fields
from transfer.errors import UserError
from transfer.files import read_text, replacing


@dataclass(frozen=True)
class CONFIG:
    """Print the table of published results, put it into a document, or make a page of them.

    Args:
        folder: of published results, one small JSON file a run.
        add: what `transfer eval --out` wrote, to be published in that folder first.
        table: a Markdown document, in which the table is put between its marks
            `<!-- leaderboard -->` and `<!-- /leaderboard -->` instead of being printed.
        out: a page (.html) of all of it.
    """

    folder: tyro.conf.Positional[Path] = Path("docs/results")
    add: tuple[Path, ...] = ()
    table: Path | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.out is not None and self.out.suffix not in (".html", ".htm"):
            raise UserError(f"out {self.out} is no .html file; rename it")


def run(config: CONFIG) -> int:
    """Publish, then print or write; the paths of what was written are printed."""
    from transfer.report.leaderboard import put_in, table
    from transfer.report.published import publish, read_published
    from transfer.report.runs import Evaluated, read_runs

    for run in read_runs(config.add):
        if not isinstance(run, Evaluated):
            raise UserError(f"{run.name} is an evolution; publish evaluations")
        print(publish(run, config.folder))
    runs = read_published(config.folder)
    if config.table:
        _write(config.table, put_in(read_text(config.table), table(runs)))
    if config.out:
        from transfer.report.page import build

        _write(config.out, build(runs, "Leaderboard"))
    if not (config.add or config.table or config.out):
        print(table(runs), end="")
    return 0


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    print(path)
