"""Policies that were run under two shares of a budget, each shown under the better one.

Who shares a budget decides more than which rule prunes (a NAMM's scores mean the same in every
head, sums of attention do not), so a comparison that fixes it for all favours somebody.
"""

from collections.abc import Sequence
from dataclasses import replace

from transfer.evaluation.store import Results, Row


def better_shared(results: Results) -> Results:
    """The same with one contender of each pair: the better by the metric that counts.

    It is called by the pair's name and the share. Of every task, and what else entries are about,
    another one may be the better. Results that have no pairs are returned as they are.
    """
    if not has_pairs(results):
        return results
    fields = ("task", *results.keys)
    cells: dict[tuple[object, ...], list[Row]] = {}
    for entry in results.summary:
        cells.setdefault(tuple(entry[field] for field in fields), []).append(entry)
    summary = [one for cell in cells.values() for one in _of_cell(cell, results.metrics[0])]
    return replace(results, summary=summary)


def has_pairs(results: Results) -> bool:
    """Whether policies were run under two shares."""
    return any(entry.get("pair") for entry in results.summary)


def words(results: Results) -> str:
    """What the tables show, in a line under them."""
    return (
        f"Budgets were shared by nobody (head) and by the heads of a layer (layer); the better by "
        f"{results.metrics[0]} is shown of each policy. results.json has both."
    )


def _of_cell(entries: Sequence[Row], metric: str) -> list[Row]:
    """Its entries but those of the worse contender of each pair."""
    best: dict[tuple[object, ...], Row] = {}
    for entry in entries:
        # Groups come after what they are of.
        if entry["metric"] == metric and entry.get("pair"):
            first = best.setdefault(_pair(entry), entry)
            same = first["group_by"] == entry["group_by"]
            if same and _mean(entry) > _mean(first):
                best[_pair(entry)] = entry
    shown = {(one["policy"], one["budget"]) for one in best.values()}
    return [
        {**one, "policy": f"{one['pair']} ({one['share']})"} if one.get("pair") else one
        for one in entries
        if not one.get("pair") or (one["policy"], one["budget"]) in shown
    ]


def _pair(entry: Row) -> tuple[object, ...]:
    nominal = entry["nominal"]
    return entry["pair"], type(nominal), nominal


def _mean(entry: Row) -> float:
    return float("-inf") if entry["mean"] is None else entry["mean"]
