"""Runs the sections of a suite one after the other, each into its own folder."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import (
    ROWS_FILE,
    SETTINGS_FILE,
    Results,
    Row,
    lost_policies,
    write_results,
)
from transfer.evaluation.suite import SuiteEval
from transfer.evaluation.suite_summary import CHANGE, SCORE, summarise, tasks_of
from transfer.evaluation.suite_table import EQUALS, markdown
from transfer.files import locked, replacing
from transfer.provenance import command_line, versions

MARKDOWN_FILE = "table.md"


@typed
def evaluate_suite(config: SuiteEval) -> Results:
    """Run every section that is not finished, and summarise them together.

    Ctrl-C ends the suite early: what had ended is summarised, and the results say `interrupted`.

    Raises:
        UserError: bad settings, or an output that cannot be written or holds another run.
    """
    out = config.run.out
    with locked(out):
        _refuse_others(out)
        sections, interrupted = _run(config)
        tasks = [task for name, results in sections.items() for task in tasks_of(name, results)]
        rows = [row for name, results in sections.items() for row in _rows(name, results)]
        found = Results(
            kind=config.kind,
            command=command_line("eval suite", config),
            versions=versions(),
            metrics=(SCORE, CHANGE),
            keys=(),
            summary=summarise(tasks),
            rows=rows,
            interrupted=interrupted,
            lost=lost_policies(rows),
            computed=_computed(sections),
            notes=(EQUALS[config.equal],),
        )
        if out is not None:
            write_results(out, found)
            with replacing(out / MARKDOWN_FILE) as partial:
                partial.write_text(markdown(found), encoding="utf-8")
    return found


def _run(config: SuiteEval) -> tuple[dict[str, Results], bool]:
    """What each section found, and whether Ctrl-C ended one."""
    console, sections = Console(stderr=True), config.sections()
    found: dict[str, Results] = {}
    for number, (name, section) in enumerate(sections.items(), 1):
        console.print(f"{number}/{len(sections)} {name}", highlight=False)
        began = time.perf_counter()
        try:
            found[name] = evaluate(section)
        except KeyboardInterrupt:
            # Before its first item, where there is nothing of it to summarise.
            return found, True
        console.print(f"   {time.perf_counter() - began:.0f} s", highlight=False)
        if found[name].interrupted:
            return found, True
    return found, False


def _computed(sections: Mapping[str, Results]) -> dict[str, str]:
    """The numbers and devices of all of them."""
    told = [each for results in sections.values() for each in results.computed.items()]
    return {name: " and ".join(sorted({v for n, v in told if n == name})) for name, _ in told}


def _rows(section: str, results: Results) -> list[Row]:
    """The rows of a section; what failed in it is told by its name."""
    return [
        {**row, "item": f"{section} {row['item']}", "policy": f"{row['policy']} in {section}"}
        for row in results.rows
    ]


def _refuse_others(folder: Path | None) -> None:
    """A suite's folder has no rows and settings of its own, those of all other runs have.

    Raises:
        UserError: it holds another run.
    """
    if folder is not None and any((folder / name).is_file() for name in (ROWS_FILE, SETTINGS_FILE)):
        raise UserError(f"{folder} holds a run of another kind; choose another --out")
