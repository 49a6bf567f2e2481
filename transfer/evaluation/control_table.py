"""The tables a control run prints: scores, and what they cost, within 100 columns."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transfer.evaluation.results import Results, Row
from transfer.evaluation.tables import interval_text, new_table, number_text


def tables(results: Results) -> Group:
    """Two tables for each target return, and a line on what may be compared with what."""
    parts: list[Table] = []
    for target in dict.fromkeys(entry["target_return"] for entry in results.summary):
        entries = [entry for entry in results.summary if entry["target_return"] == target]
        parts += [_scores(entries), _costs(entries)]
    contexts = {entry["context"] for entry in results.summary}
    notes = [*_failures(results.rows), *map(drift, contexts)]
    return Group(*parts, *map(Text, notes))


def _failures(rows: Sequence[Row]) -> list[str]:
    """How many episodes failed, and the first of them."""
    failures = [row["failure"] for row in rows if row["failure"]]
    if not failures:
        return []
    return [
        f"{len(failures)} of {len(rows)} episodes failed and are in no mean; the first: "
        f"{failures[0]}."
    ]


def drift(context: int) -> str:
    """What may be compared with what."""
    return (
        f"All but window run incrementally and drift from it after {context} steps even with the "
        "same tokens: cached entries attended to tokens that are gone since."
    )


def _scores(entries: Sequence[Row]) -> Table:
    first = entries[0]
    title = (
        f"{first['model']} in {first['task']}, target return {first['target_return']:g}; "
        "D4RL scores with 95% intervals"
    )
    columns = ("protocol", "n", "return", "score", "IQM", "- window", "- full")
    rows = (
        (
            entry["policy"],
            str(entry["n"]),
            f"{entry['return_mean']:.0f} ± {entry['return_std']:.0f}",
            interval_text(entry["mean"], entry["low"], entry["high"]),
            f"{entry['iqm']:.1f}",
            interval_text(
                *(entry[f"delta_{part}"] for part in ("vs_window", "window_low", "window_high"))
            ),
            interval_text(*(entry[f"delta_{part}"] for part in ("vs_full", "low", "high"))),
        )
        for entry in entries
    )
    return new_table(title, columns, rows)


def _costs(entries: Sequence[Row]) -> Table:
    columns = (
        "protocol", "steps", "tokens", "of seen", "age", "peak KB", "end KB", "full KB",
        "env s", "model s", "policy s",
    )  # fmt: skip
    rows = (
        (
            entry["policy"],
            f"{entry['length']:.0f}",
            number_text(entry["kept_tokens"], ".1f"),
            number_text(entry["kept"], ".1%"),
            number_text(entry["kept_age"], ".0f"),
            *(
                number_text(entry[name], ".1f", 1e3)
                for name in ("cache_bytes", "cache_bytes_end", "full_bytes")
            ),
            *(f"{entry[f'{part}_seconds']:.1f}" for part in ("simulator", "transformer", "policy")),
        )
        for entry in entries
    )
    title = "Tokens of a layer and head at the end, their mean age in steps, bytes, wall time"
    return new_table(title, columns, rows)
