"""`transfer eval language|video|control|suite`; the kind may be left out, the model says it."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table

from transfer.adapters.kinds import kind_of
from transfer.cli import FAILED, INTERRUPTED
from transfer.errors import UserError, resumable, unknown_name
from transfer.evaluation.control import ControlEval
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import EvalConfig
from transfer.evaluation.store import Results
from transfer.evaluation.suite import SuiteEval
from transfer.evaluation.tables import WIDTH
from transfer.evaluation.video import VideoEval
from transfer.terminal import say

CONFIG = {config.kind: config for config in (LanguageEval, VideoEval, ControlEval, SuiteEval)}


def with_kind(words: Sequence[str]) -> list[str]:
    """The words with the kind put in, where it was left out and a suite or a model was named.

    Raises:
        UserError: no such kind, no model, or nothing is known of it.
    """
    if not words or words[0] in CONFIG:
        return list(words)
    if not words[0].startswith("-"):
        raise unknown_name("kind of evaluation", words[0], CONFIG)
    if option(words, "--suite") is not None:
        return ["suite", *words]
    model = option(words, "--model")
    if model and not model.startswith("-"):
        return [kind_of(model), *words]
    if {"-h", "--help"} & set(words):
        return list(words)
    raise UserError(
        f"transfer eval {' '.join(words)}: name a model with --model, or one of {', '.join(CONFIG)}"
    )


def option(words: Sequence[str], name: str) -> str | None:
    """The value that follows an option, or that is joined to it; None without the option."""
    for word, after in zip(words, [*words[1:], ""]):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None


def run(config: EvalConfig) -> int:
    """Evaluate, print the tables or JSON, and say how it ended."""
    lost = "no result was kept; --out keeps what has ended"
    kept = f"kept in {config.run.out}; the same command goes on from there"
    with resumable(f"whatever had ended is {kept}" if config.run.out else lost):
        results = _evaluate(config)
    if config.run.json:
        print(json.dumps(results.as_json(), indent=1))
    else:
        print_tables(results)
    if results.interrupted:
        done = (
            "what was done is" if isinstance(config, SuiteEval) else f"{len(results.rows)} rows are"
        )
        say(f"interrupted: {done} {kept if config.run.out else 'summarised; --out would keep it'}")
        return INTERRUPTED
    return lost_code(results)


def lost_code(results: Results) -> int:
    """Say which policies failed at every item; the exit code of that."""
    if results.lost:
        say(f"error: every item of {', '.join(results.lost)} failed; see above")
    return FAILED if results.lost else 0


def _evaluate(config: EvalConfig) -> Results:
    if isinstance(config, SuiteEval):
        from transfer.evaluation.suite_run import evaluate_suite

        return evaluate_suite(config)
    from transfer.evaluation.runner import evaluate

    return evaluate(config)


def print_tables(results: Results) -> None:
    """Print what a run found."""
    from transfer.evaluation.layouts import tables

    if not results.summary and not results.rows:
        say("no episode, document or question had ended")
        return
    print_table(tables(results))


def print_table(shown: RenderableType) -> None:
    """Print for a terminal, or as wide as tables are."""
    # What is no terminal counts as 80 columns, which would cut numbers off.
    Console(width=None if sys.stdout.isatty() else _width(shown)).print(shown)


def _width(shown: RenderableType) -> int:
    """That of the widest table, where one needs more than most: long names of policies."""
    if isinstance(shown, Group):
        return max(map(_width, shown.renderables), default=WIDTH)
    wide = Console(width=1000)
    needed = Measurement.get(wide, wide.options, shown).maximum if isinstance(shown, Table) else 0
    return max(WIDTH, needed)
