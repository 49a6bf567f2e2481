"""Runs the sections of a suite one after the other, each into its own folder."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from transfer.evaluation.control import ControlEval, evaluate_control
from transfer.evaluation.language import LanguageEval, evaluate_language
from transfer.evaluation.results import ResultFolder, Results
from transfer.evaluation.suite import Section, SuiteEval
from transfer.evaluation.suite_summary import Task, summarise, tasks_of
from transfer.evaluation.suite_table import markdown
from transfer.evaluation.video_qa import VideoEval, evaluate_video
from transfer.files import replacing
from transfer.provenance import command_line, versions

MARKDOWN_FILE = "table.md"
_RUNNERS: Mapping[type, Callable[[Any], Results]] = {
    ControlEval: evaluate_control,
    LanguageEval: evaluate_language,
    VideoEval: evaluate_video,
}


def run_suite(config: SuiteEval) -> Results:
    """Run what is not finished; see `transfer.evaluation.suite.evaluate_suite`."""
    console, tasks, interrupted = Console(stderr=True), list[Task](), False
    sections = config.sections()
    with ResultFolder(config.out) as folder:
        for number, section in enumerate(sections, 1):
            console.print(f"{number}/{len(sections)} {section.name}", highlight=False)
            results = _run(section, console)
            tasks += tasks_of(section.modality, section.name, results)
            interrupted = results.interrupted
            if interrupted:
                break
        found = Results(
            command=command_line("eval", config),
            versions=versions(),
            seeds=[],
            summary=summarise(tasks),
            rows=[],
            interrupted=interrupted,
        )
        folder.finish(found)
        if config.out is not None:
            with replacing(config.out / MARKDOWN_FILE) as partial:
                partial.write_text(markdown(found), encoding="utf-8")
    return found


def _run(section: Section, console: Console) -> Results:
    began = time.perf_counter()
    results = _RUNNERS[type(section.config)](section.config)
    console.print(f"   {time.perf_counter() - began:.0f} s", highlight=False)
    return results
