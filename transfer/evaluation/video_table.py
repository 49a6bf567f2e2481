"""The tables a video run prints: accuracy, what it costs, accuracy by group, and what failed."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transfer.evaluation.results import Results, Row
from transfer.evaluation.tables import WIDTH, interval_text, new_table, number_text
from transfer.evaluation.video_summary import ALL

#: Reasons of failure that are printed; all are in rows.jsonl.
_REASONS = 5


def tables(results: Results) -> Group:
    """Accuracy and costs of every policy, tables by group, and what failed and why."""
    parts: list[Table | Text] = []
    entries = [entry for entry in results.summary if entry["group_by"] == ALL]
    if entries:
        parts += [_accuracy(entries), _costs(entries), Text(_seconds(entries[0]) + "\n")]
        for field in dict.fromkeys(entry["group_by"] for entry in results.summary):
            if field != ALL:
                parts += _by_group([e for e in results.summary if e["group_by"] == field], field)
    return Group(*parts, *_failures(results.rows))


def budget_text(budget: int | float | None) -> str:
    """`25%` or `64` tokens; `-` for none."""
    if budget is None:
        return "-"
    return f"{budget:.0%}" if isinstance(budget, float) and budget <= 1 else f"{budget:g}"


def _of(entries: Sequence[Row], metric: str) -> list[Row]:
    return [entry for entry in entries if entry["metric"] == metric]


def _accuracy(entries: Sequence[Row]) -> Table:
    first = entries[0]
    over = f", mean of {_categories_text(first)}" if first["aggregation"] == "macro" else ""
    title = (
        f"{PurePath(first['model']).name} on {first['task']}: {first['n']} questions, "
        f"{first['videos']} videos, {first['frames']:g} frames, chance {first['chance']:.1%}; "
        f"% right{over} [95%]"
    )
    columns = ("policy", "budget", "likelihood", "- full", "reply", "unread")
    rows = (
        (
            likely["policy"],
            budget_text(likely["budget"]),
            *_interval_pair(likely),
            _interval_pair(reply)[0],
            str(likely["unparsed"]),
        )
        for likely, reply in zip(_of(entries, "likelihood"), _of(entries, "reply"))
    )
    return new_table(title, columns, rows)


def _categories_text(entry: Row) -> str:
    scored, there = entry["scored_categories"], entry["categories"]
    return f"{scored} categories" if scored == there else f"{scored} of {there} categories"


def _interval_pair(entry: Row) -> tuple[str, str]:
    return (
        interval_text(entry["mean"], entry["low"], entry["high"], 100.0),
        interval_text(entry["delta_vs_full"], entry["delta_low"], entry["delta_high"], 100.0),
    )


def _costs(entries: Sequence[Row]) -> Table:
    unit, size = ("MB", 1e6) if entries[0]["full_bytes"] >= 1e7 else ("KB", 1e3)
    parts = {"video": "video", "text": "text", "all": "cache", "peak": "peak", "full": "full"}
    columns = (
        "policy", "budget", "video", "text", *(f"{part} {unit}" for part in parts),
        "prefill ms", "answer ms",
    )  # fmt: skip
    rows = (
        (
            entry["policy"],
            budget_text(entry["budget"]),
            f"{entry['kept_video_tokens']:.1f}",
            f"{entry['kept_text_tokens']:.1f}",
            *(number_text(entry[f"{part}_bytes"], ".1f", size) for part in parts.values()),
            *(_milliseconds(entry, part) for part in ("prefill", "answer")),
        )
        for entry in _of(entries, "likelihood")
    )
    title = "Tokens of a layer and head after the prompt, bytes of the cache, time of a question"
    return new_table(title, columns, rows)


def _milliseconds(entry: Row, part: str) -> str:
    return f"{1e3 * entry[f'{part}_seconds'] / entry['questions']:.1f}"


def _seconds(entry: Row) -> str:
    return (
        f"Decoding took {entry['decode_seconds']:.1f} s and the vision tower "
        f"{entry['vision_seconds']:.1f} s, once for all policies."
    )


def _by_group(entries: Sequence[Row], field: str) -> Iterator[Table]:
    """As many groups side by side as fit, one line a policy and budget."""
    likely = _of(entries, "likelihood")
    readers = list(dict.fromkeys((entry["policy"], entry["budget"]) for entry in likely))
    # Of the policy, of the budget, and at the edges.
    room = WIDTH - max(len(policy) for policy, _ in readers) - 10
    left, columns = room, []
    for group in dict.fromkeys(entry["group"] for entry in likely):
        column = [entry for entry in likely if entry["group"] == group]
        failed = f", {column[0]['failed']} failed" if column[0]["failed"] else ""
        head = f"{group or '-'} ({column[0]['n']}{failed})"
        cells = list(map(_group_text, column))
        needed = 2 + max(map(len, [head, *cells]))
        if columns and left < needed:
            yield _group_table(field, readers, columns)
            left, columns = room, []
        left -= needed
        columns.append((head, cells))
    yield _group_table(field, readers, columns)


def _group_text(entry: Row) -> str:
    return interval_text(entry["mean"], entry["low"], entry["high"], 100.0, digits=0)


def _group_table(
    field: str,
    readers: Sequence[tuple[str, int | float | None]],
    columns: Sequence[tuple[str, Sequence[str]]],
) -> Table:
    heads = ("policy", "budget", *(head for head, _ in columns))
    rows = (
        (policy, budget_text(budget), *(cells[number] for _, cells in columns))
        for number, (policy, budget) in enumerate(readers)
    )
    title = f"Likelihood accuracy by {field.replace('_', ' ')} (questions)"
    return new_table(title, heads, rows)


def _failures(rows: Sequence[Row]) -> Iterator[Text]:
    reasons = [row["failed"] for row in rows if "failed" in row]
    if reasons:
        questions = len({row["question"] for row in rows})
        yield Text(f"Failed, and in no mean: {len(reasons)} of {questions} questions")
        yield from (Text(f"  {reason}") for reason in reasons[:_REASONS])
    if len(reasons) > _REASONS:
        yield Text(f"  and {len(reasons) - _REASONS} more, with their reasons in rows.jsonl")
