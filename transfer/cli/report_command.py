"""`transfer report`: the tables of evaluations again, and one page of any runs to look at.

What reads and draws is imported when it runs, because it waits for torch and help does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from transfer.arguments import check_fields
from transfer.errors import UserError
from transfer.files import replacing
from transfer.progress import waiting
from transfer.terminal import say

if TYPE_CHECKING:
    from transfer.evaluation.store import Results
    from transfer.report.runs import Run

_PAGE = "report.html"


@dataclass(frozen=True)
class CONFIG:
    """Print the tables of finished evaluations again, and make one page of any runs.

    The page is one file that needs no network: a leaderboard that sorts and filters, scores against
    what was held, paired differences, heat maps, every item with the replies of each policy, an
    evolution's curve, and the commands behind it all.

    Args:
        folders: what `transfer eval --out` or `transfer evolve --out` wrote, or folders of such.
        out: the page; by default report.html in the folder, of several folders in the current one.
        pictures: a folder into which every figure is drawn as PNG, too.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    pictures: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.folders:
            raise UserError("no folder is named; name what `transfer eval --out` wrote")
        if self.out is not None and self.out.suffix not in (".html", ".htm"):
            raise UserError(f"out {self.out} is no .html file; rename it")


def run(config: CONFIG) -> int:
    """Print the tables, write the page and print its path; the exit code of the worst run."""
    from transfer.report.runs import Evaluated, read_runs

    runs = read_runs(config.folders)
    found = [run for run in runs if isinstance(run, Evaluated)]
    codes = [_print(run.name if len(runs) > 1 else None, run.results) for run in found]
    if not find_spec("vl_convert") and codes and not (config.out or config.pictures):
        say("no page was written: pip install 'namm-transfer[report]' makes one of this")
    else:
        _draw(config, runs)
    return max(codes, default=0)


def _print(name: str | None, results: "Results") -> int:
    from transfer.cli.eval_command import lost_code, print_tables

    if name:
        print(f"== {name}\n")
    print_tables(results)
    if results.interrupted:
        say("interrupted: that is what had ended; its command goes on")
    return lost_code(results)


def _draw(config: CONFIG, runs: Sequence["Run"]) -> None:
    from transfer.report.page import build
    from transfer.report.pictures import draw

    alone = config.folders[0] if len(config.folders) == 1 else Path()
    path = config.out or alone / _PAGE
    title = runs[0].name if len(runs) == 1 else "Report"
    with waiting("drawing"):
        text = build(runs, title)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    print(path)
    for picture in draw(runs, config.pictures) if config.pictures else ():
        print(picture)
