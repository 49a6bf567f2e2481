"""Tables as data: columns that say what they show of a line, in the look of the house.

A line is what one contender did: the entries of a summary by their metrics. `transfer.evaluation.
layouts` has the columns of each kind of evaluation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

#: Columns that a table has to fit into.
WIDTH = 100

Entry = Mapping[str, Any]
Line = Mapping[str, Entry]


@dataclass(frozen=True)
class Column:
    """What stands above, and what it makes of a line."""

    title: str
    text: Callable[[Line], str]


def number(title: str, field: str, form: str, unit: float = 1.0) -> Column:
    """A number that is the same for all metrics, in units of `unit`."""
    return Column(title, lambda line: number_text(any_entry(line).get(field), form, unit))


def with_share(title: str, field: str, share: str) -> Column:
    """A number of tokens, and its share of the full cache's."""

    def text(line: Line) -> str:
        tokens, part = (any_entry(line).get(name) for name in (field, share))
        return "-" if tokens is None else f"{tokens:.{int(tokens < 1000)}f} {part:4.0%}"

    return Column(title, text)


def score(title: str, metric: str, scale: float = 1.0, digits: int = 1) -> Column:
    """The mean of a metric with its interval."""
    return _interval(title, metric, ("mean", "low", "high"), scale, digits)


def difference(
    title: str, metric: str, base: str = "full", scale: float = 1.0, digits: int = 1
) -> Column:
    """The mean difference of a metric to a base's, with its interval."""
    bound = "delta_" if base == "full" else f"delta_{base}_"
    names = (f"delta_vs_{base}", f"{bound}low", f"{bound}high")
    return _interval(title, metric, names, scale, digits)


def _interval(title: str, metric: str, names: Sequence[str], scale: float, digits: int) -> Column:
    def text(line: Line) -> str:
        mean, low, high = (line[metric][name] for name in names)
        return interval_text(mean, low, high, scale, digits)

    return Column(title, text)


POLICY = Column("policy", lambda line: str(any_entry(line)["policy"]))
BUDGET = Column("budget", lambda line: budget_text(any_entry(line)["budget"]))


def any_entry(line: Line) -> Entry:
    """One of a line's entries, for what is the same in all."""
    return next(iter(line.values()))


def lines(entries: Iterable[Entry]) -> list[Line]:
    """The entries of each contender together, in order."""
    found: dict[tuple[object, ...], dict[str, Entry]] = {}
    for entry in entries:
        key = (entry["policy"], entry["budget"])
        found.setdefault(key, {})[entry["metric"]] = entry
    return list(found.values())


def build(title: str, columns: Sequence[Column], own: Sequence[Line]) -> Table:
    """A table with a row for each line."""
    rows = ([column.text(line) for column in columns] for line in own)
    return new_table(title, [column.title for column in columns], rows)


def new_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of the house: names on the left, numbers on the right, wide enough for its title."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        min_width=min(len(title), WIDTH),
    )
    lines = [*rows]
    # Names that differ at their ends are shown to their ends, in a second line if need be.
    longest = min(20, max((len(line[0]) for line in lines), default=0))
    table.add_column(columns[0], min_width=longest, overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for line in lines:
        table.add_row(*line)
    return table


def interval_text(
    mean: float | None,
    low: float | None,
    high: float | None,
    scale: float = 1.0,
    digits: int = 1,
) -> str:
    """`mean [low high]`, each times `scale`; `-` for none, the mean alone without bounds."""
    if mean is None:
        return "-"
    parts = [mean] if low is None or high is None else [mean, low, high]
    # Adding 0.0 turns -0.0 into 0.0.
    first, *bounds = [f"{round(part * scale, digits) + 0.0:.{digits}f}" for part in parts]
    return f"{first} [{' '.join(bounds)}]" if bounds else first


def number_text(value: int | float | None, form: str, unit: float = 1.0) -> str:
    """A number in units of `unit`; `-` for none."""
    return "-" if value is None else format(value if unit == 1 else value / unit, form)


def budget_words(budgets: Iterable[int | float | None]) -> str | None:
    """What was read as budgets, in a line under the tables; None where there is none."""
    said = dict.fromkeys(_budget_words(budget) for budget in budgets if budget is not None)
    return f"Budget of a head: {', '.join(said)}" if said else None


def _budget_words(budget: int | float) -> str:
    if isinstance(budget, float) and budget <= 1:
        return f"{budget * 100:g} % of the tokens seen"
    return "1 token" if budget == 1 else f"{budget:g} tokens"


#: Kinds of budgets, in words.
KINDS = {
    "fraction": "Budgets that are a fraction of the tokens seen",
    "size": "Budgets that are a number of tokens",
    "threshold": "No budget but a threshold, and what is made equal to it",
}


def budget_kind(entry: Entry) -> str | None:
    """The kind of a contender's budget, or of the NAMM's that it is equal to; None: it has none."""
    evicts = entry.get("update_interval") is not None
    budget = entry.get("nominal", entry["budget"]) if evicts else entry["budget"]
    if budget is None:
        return "threshold" if evicts else None
    return "fraction" if isinstance(budget, float) and budget <= 1 else "size"


def protected_words(entries: Iterable[Entry]) -> str | None:
    """Who holds which tokens whatever the policy says, in a line; None where nobody does."""
    named: dict[str, list[str]] = {}
    for entry in entries:
        counts = {"newest": entry.get("keep_recent"), "first": entry.get("sinks")}
        said = " and ".join(f"the {count} {which}" for which, count in counts.items() if count)
        if said and entry["policy"] not in named.setdefault(said, []):
            named[said].append(entry["policy"])
    said = "; ".join(f"{what} of {', '.join(policies)}" for what, policies in named.items())
    return f"Protected tokens of a head: {said}" if said else None


def shared_words(entries: Iterable[Entry]) -> str | None:
    """Whose heads share the budgets of a layer, in a line; None where nobody's do."""
    policies = dict.fromkeys(each["policy"] for each in entries if each.get("share") == "layer")
    return f"Budgets shared by the heads of a layer: {', '.join(policies)}" if policies else None


def budget_text(budget: int | float | None) -> str:
    """`25%` or `64` tokens; `-` for none."""
    if budget is None:
        return "-"
    return f"{budget:.0%}" if isinstance(budget, float) and budget <= 1 else f"{budget:g}"
