"""The table of what is published, in Markdown: one that a README can hold, with where we lose.

A line is what was asked of a model at one budget. NAMMs have a column each, whether they win or
not; rules stand at the same memory, H2O by name and the best of the others. Of several lengths the
longest is shown, of the tasks of a benchmark their mean, and of many tasks of a suite their average
change. Runs that asked the same, of other NAMMs, share a line.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from transfer.errors import UserError
from transfer.evaluation.store import SUITE, Row
from transfer.evaluation.suite_summary import BASES, CHANGE
from transfer.evaluation.summary import FAMILY
from transfer.evaluation.tables import budget_text, interval_text
from transfer.report.lines import lines
from transfer.report.runs import Evaluated

BEGIN, END = "<!-- leaderboard -->", "<!-- /leaderboard -->"
_MARKED = re.compile(rf"^{BEGIN}\n(.*\n)*?{END}$", re.MULTILINE)
#: Who is no rule of eviction at the same memory.
_UNRULED = ("full", "window", "cache", "oracle", "kvzip")
#: How a NAMM's state is stored, which makes it no other NAMM.
_STORED = ":state=byte"
_NOTE = (
    "95% intervals over items; bold: the best of those that evict. All of a row hold the same: as "
    "many tokens, in averages as many bytes as the NAMM, however its state is stored. Unpruned is "
    "the full cache, in Hopper and the control tasks the stock window; changes are in per cent of "
    "its score."
)


@dataclass
class _Asked:
    """A line of the table.

    Attributes:
        about: what was asked.
        base: of who does not evict.
        pruned: of each policy.
    """

    about: str
    base: Row | None = None
    pruned: dict[str, Row] = field(default_factory=dict)


def table(runs: Sequence[Evaluated]) -> str:
    """The table of published runs, in Markdown."""
    asked: dict[str, _Asked] = {}
    # What people know comes first.
    for run in sorted(runs, key=lambda run: run.kind != "language"):
        for about, base, line in _shown(run):
            own = asked.setdefault(about, _Asked(about))
            if base and own.base is None:
                own.base = line
            elif not base:
                own.pruned.setdefault(line["policy"].removesuffix(_STORED), line)
    rows = [one for one in asked.values() if any(_is_namm(policy) for policy in one.pruned)]
    namms = sorted({policy for one in rows for policy in one.pruned if _is_namm(policy)})
    head = [
        "task",
        "unpruned",
        *(name.replace(":", "-") for name in namms),
        "h2o",
        "best other rule",
    ]
    body = [head, ["---"] * len(head), *(_row(one, namms) for one in rows)]
    lines_of_it = (f"| {' | '.join(cells)} |" for cells in body)
    return "\n".join([*lines_of_it, "", _NOTE, ""])


def _is_namm(policy: str) -> bool:
    return policy.startswith("namm:")


def _shown(run: Evaluated) -> Iterator[tuple[str, bool, Row]]:
    """What the lines of a run are about, whether they are of the base, and the lines."""
    main = _mains(run)
    longest: dict[tuple[str, object], float] = {}
    for line in main:
        key, length = _place(line)
        longest[key] = max(longest.get(key, 0), length)
    own = [line for line in main if _place(line)[1] == longest[_place(line)[0]]]
    for line in own:
        if line["policy"] == _base(run, line):
            for about in dict.fromkeys(_about(run, other) for other in own if _alike(line, other)):
                yield about, True, line
        elif line["policy"].split(":")[0] not in _UNRULED and ":share=" not in line["policy"]:
            yield _about(run, line), False, line


def _mains(run: Evaluated) -> list[Row]:
    """Lines of the metric that counts; of a suite with many tasks, average changes."""
    found = [line for line in lines(0, run.results) if line["group_by"] != "depth"]
    known = [line for line in found if "mean" in line]
    metric = run.results.metrics[0]
    if run.kind == SUITE and len({(one["model"], one["task"]) for one in known}) > 2:
        metric = CHANGE
    families = {_family(one) for one in known if one["group_by"] == FAMILY}
    known = [one for one in known if one["group_by"] == FAMILY or _family(one) not in families]
    # Too few items have no interval, and say nothing of who is better.
    own = [line for line in known if line["metric"] == metric and line.get("low") is not None]
    # An average of one task is that task.
    return [line for line in own if metric != CHANGE or line["n"] > 1]


def _family(line: Row) -> str:
    return re.split(" ·|/", line["task"])[0]


def _place(line: Row) -> tuple[tuple[str, object], float]:
    """What a line is of but for its length, and that."""
    others = {name: part for name, part in line["settings"].items() if name != "length"}
    length = line["settings"].get("length")
    return (line["model"], str(others)), length if isinstance(length, float) else 0.0


def _alike(line: Row, other: Row) -> bool:
    return (line["model"], line["task"]) == (other["model"], other["task"])


def _modality(run: Evaluated, line: Row) -> str:
    """Of a line of a suite; `all` of the average over all."""
    if line["metric"] == CHANGE:
        return line["task"].removeprefix("average ")
    return run.results.summary[0]["modality"]


def _base(run: Evaluated, line: Row) -> str:
    """Who does not evict, or what control is compared with."""
    if run.kind == SUITE:
        return BASES.get(_modality(run, line), "full")
    return "window" if run.results.metrics[0] == "d4rl_score" else "full"


def _about(run: Evaluated, line: Row) -> str:
    """Model, task, what is measured, and the budget where it is of all."""
    words = shlex.split(run.results.command)
    equal = f", equal {words[words.index('--equal') + 1]}" if "--equal" in words else ""
    if run.kind == SUITE:
        modality = _modality(run, line).replace("-", " ")
        if line["metric"] == CHANGE:
            tasks = f"all {line['n']}" if modality == "all" else f"{line['n']} {modality}"
            return f"average of {tasks} tasks, change in %{equal}"
        # Rules of a suite have each a budget of its own, by bytes.
        return f"{line['model']}, {modality}, score in %{equal}"
    data = f" of {words[words.index('--data') + 1]}" if "--data" in words else ""
    task = line["task"].replace(" ·", f"{data} ·", 1) if " ·" in line["task"] else line["task"]
    budget, kind = budget_text(line.get("budget")), line.get("kind")
    held = {"size": f", {budget} tokens", "fraction": f", {budget}"}.get(kind or "", "")
    return f"{line['model']}, {task}, {run.measure(line['metric'])}{held}"


def _row(one: _Asked, namms: Sequence[str]) -> list[str]:
    rules = {policy: line for policy, line in one.pruned.items() if not _is_namm(policy)}
    h2o = rules.pop("h2o", None)
    other = max(rules, key=lambda policy: rules[policy]["mean"], default=None)
    best = max(line["mean"] for line in one.pruned.values())
    cells = [_cell(one.pruned.get(name), best) for name in namms]
    last = f"{_cell(rules[other], best)} {other}" if other else "-"
    return [one.about, _cell(one.base, None), *cells, _cell(h2o, best), last]


def _cell(line: Row | None, best: float | None) -> str:
    if line is None:
        return "-"
    low, high = line.get("low"), line.get("high")
    percent = line["scale"] == 100 or line["metric"] == "score"
    digits = 1 if percent or abs(line["mean"]) >= 10 else 3
    text = interval_text(line["mean"], low, high, line["scale"], digits)
    # The best of those who evict, however little ahead.
    return re.sub(r"^\S+", lambda found: f"**{found[0]}**", text) if line["mean"] == best else text


def put_in(text: str, made: str) -> str:
    """A document with the table between its marks, each of which is a line.

    Raises:
        UserError: it has no marks.
    """
    # Of Windows' line ends it has those alone.
    ends = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    if not _MARKED.search(text):
        raise UserError(
            f"the document has no line {BEGIN} with a line {END} after it; put both where it goes"
        )
    text = _MARKED.sub(lambda found: f"{BEGIN}\n{made}{END}", text, count=1)
    return text.replace("\n", ends)


def is_stale(text: str, made: str) -> bool:
    """Whether a document that has the marks holds another table."""
    marked = _MARKED.search(text.replace("\r\n", "\n")) is not None
    return marked and put_in(text, made) != text
