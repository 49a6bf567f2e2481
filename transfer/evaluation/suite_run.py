"""Runs the sections of a suite one after the other, each into its own folder."""

import time

from rich.console import Console

from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import Results, write_results
from transfer.evaluation.suite import SuiteEval
from transfer.evaluation.suite_summary import CHANGE, SCORE, Task, summarise, tasks_of
from transfer.evaluation.suite_table import markdown
from transfer.files import locked, replacing
from transfer.provenance import command_line, versions

MARKDOWN_FILE = "table.md"


def evaluate_suite(config: SuiteEval) -> Results:
    """Run every section that is not finished, and summarise them together.

    Ctrl-C ends the suite early: what had ended is summarised, and the results say `interrupted`.

    Raises:
        UserError: bad settings, or an output that cannot be written or holds another suite.
    """
    console, tasks, interrupted = Console(stderr=True), list[Task](), False
    sections, out = config.sections(), config.run.out
    with locked(out):
        for number, (name, section) in enumerate(sections.items(), 1):
            console.print(f"{number}/{len(sections)} {name}", highlight=False)
            began = time.perf_counter()
            results = evaluate(section)
            console.print(f"   {time.perf_counter() - began:.0f} s", highlight=False)
            tasks += tasks_of(name, results)
            interrupted = results.interrupted
            if interrupted:
                break
        found = Results(
            kind=config.kind,
            command=command_line("eval suite", config),
            versions=versions(),
            metrics=(SCORE, CHANGE),
            keys=(),
            summary=summarise(tasks),
            rows=[],
            interrupted=interrupted,
        )
        if out is not None:
            write_results(out, found)
            with replacing(out / MARKDOWN_FILE) as partial:
                partial.write_text(markdown(found), encoding="utf-8")
    return found
