"""Items of runs, one by one: what was asked, what each policy replied, and what it kept.

A page has room for so many bytes of them; where there are more, it says how many of how many.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from transfer.evaluation.store import Row
from transfer.pages import embedded
from transfer.report.lines import contender, scale, title
from transfer.report.runs import Evaluated, Run

#: Characters of a reply, and of a question.
_REPLY, _QUESTION = 600, 1200


def items(runs: Sequence[Run], room: int) -> list[Row]:
    """Of each run, model and task those that fit, in columns: one list an item.

    Args:
        runs: all of a page.
        room: bytes of all together; each task has its even share.
    """
    found = [cell for number, run in enumerate(runs) for cell in _of_run(number, run)]
    return [_fitted(cell, room // len(found)) for cell in found]


def _of_run(number: int, run: Run) -> Iterator[Row]:
    if isinstance(run, Evaluated):
        for each in (run, *run.sections):
            about = {"run": number, "section": "" if each is run else each.name}
            yield from (about | cell for cell in _cells(each))


def _cells(run: Evaluated) -> Iterator[Row]:
    results = run.results
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in results.rows:
        # A row that failed may say no more than that.
        if "task" in row:
            asked = PurePath(str(row.get("model", ""))).name, title(row, results.keys)
            parts.setdefault(asked, []).append(row)
    for (model, task), rows in parts.items():
        metric = results.metrics[0]
        about = {"model": model, "task": task, "metric": metric, "scale": scale(results, metric)}
        yield about | _columns(rows, metric, run.named)


def _columns(rows: Sequence[Row], metric: str, named: Mapping[str, str]) -> Row:
    """Who was asked, and for each item what each of them did."""
    who = list(dict.fromkeys(map(contender, rows)))
    by_item: dict[Any, dict[str, Row]] = {}
    for row in rows:
        by_item.setdefault(row["item"], {})[contender(row)] = row
    lines = {contender(row): named[row["policy"]] for row in rows}
    return {
        "contenders": who,
        "lines": [lines[name] for name in who],
        "items": [_item(item, [own.get(name) for name in who], metric) for item, own in
                  by_item.items()],
    }  # fmt: skip


def _item(item: Any, rows: Sequence[Row | None], metric: str) -> Row:
    first = next(row for row in rows if row is not None)
    asked = {
        "question": _cut(first.get("question_text"), _QUESTION),
        "right": first.get("right"),
    }
    told = {
        "scores": [_rounded(row, metric) for row in rows],
        "kept": [_rounded(row, "kept_tokens") for row in rows],
        "tokens": [_rounded(row, "tokens") for row in rows],
        "replies": [row and _cut(row.get("reply"), _REPLY) for row in rows],
        "returns": [row and row.get("returns") for row in rows],
        "failures": [row and row["failure"] for row in rows],
    }
    known = {name: own for name, own in told.items() if any(one is not None for one in own)}
    return {"item": str(item)} | {k: v for k, v in asked.items() if v} | known


def _rounded(row: Mapping[str, Any] | None, name: str) -> float | None:
    value = row.get(name) if row else None
    return None if value is None else float(f"{value:.6g}")


def _cut(text: str | None, most: int) -> str | None:
    return text if text is None or len(text) <= most else f"{text[:most]} …"


def _fitted(cell: Row, room: int) -> Row:
    """The first items of a cell that fit."""
    shown: list[Row] = []
    for item in cell["items"]:
        room -= len(embedded(item).encode())
        if room < 0:
            break
        shown.append(item)
    return cell | {"items": shown, "of": len(cell["items"])}
