"""The suite's tables, on screen and in Markdown."""

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transfer.evaluation.store import Results, Row
from transfer.evaluation.suite_summary import BASES, CHANGE
from transfer.evaluation.summary import ALL
from transfer.evaluation.tables import interval_text, new_table, number_text

_NOTE = (
    "Base: the model as it is without pruning, the full cache; in control the stock window, which "
    "encodes the last 20 steps anew. All other control protocols run incrementally and drift from "
    "it after 20 steps."
)
_FIFO = "; fifo has the tokens of the NAMM."
#: How rules are equal to the NAMM, in a sentence.
EQUALS = {
    "bytes": f"Rules have the tokens that fit into the NAMM's peak bytes{_FIFO}",
    "held": f"Rules hold as many tokens as the NAMM, on average over those seen{_FIFO}",
    "peak": f"Rules hold at most as many tokens as the NAMM at most{_FIFO}",
}
_TITLES = {
    "language": "Language: % of answers right",
    "real-language": "Real language: score in %",
    "video": "Video: % of questions right",
    "control": "Control: D4RL score",
    "memory": "Control with memory: success in %",
}
#: So that nine columns of control fit on a screen.
_SHORT = {
    "hopper": "hop", "halfcheetah": "che", "walker2d": "wal",
    "-medium-replay": "-mr", "-medium": "-m", "-expert": "-e",
    "minigrid-memory": "grid", "repeat-previous": "repeat",
    "-none": "-n", "-learned": "-l", "-stretched": "-s",
}  # fmt: skip


def tables(results: Results) -> Group:
    """Scores of every policy by modality, then changes against the base, and what they mean."""
    scores, averages = _parted(results.summary)
    found = [_scores(title, entries) for title, entries in _groups(scores)]
    return Group(*found, _versus_base(scores), _changes(averages), Text(_note(results)))


def markdown(results: Results) -> str:
    """The same tables, with an interval at every score."""
    scores, averages = _parted(results.summary)
    minutes = sum(entry["seconds"] for entry in scores) / 60
    parts = [f"`{results.command}`, {minutes:.0f} minutes"]
    for title, own in _groups(scores):
        names = list(dict.fromkeys(entry["task"] for entry in own))
        rows = (
            [policy, *(_interval(_find(own, task=name, policy=policy)) for name in names)]
            for policy in _policies(own)
        )
        columns = ["policy", *(name.split("/")[-1] for name in names)]
        parts.append(f"{title} [95% interval]\n\n{_markdown(columns, rows)}")
    columns, rows = _change_cells(averages)
    parts += [f"{_change_title(averages)}\n\n{_markdown(columns, rows)}", _note(results)]
    return "\n\n".join(parts) + "\n"


def _note(results: Results) -> str:
    # Suites of earlier versions say nothing, and were at equal bytes.
    return " ".join([_NOTE, *(results.notes or [EQUALS["bytes"]])])


def _groups(scores: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """What has a table of its own, with its title: a modality, of language each model."""
    groups: dict[str, list[Row]] = {}
    for entry in scores:
        parts = entry["task"].split("/")
        about = f", {parts[1]}" if len(parts) == 3 else ""
        groups.setdefault(f"{_TITLES[entry['modality']]}{about}", []).append(entry)
    for title, entries in groups.items():
        counts = sorted({entry["n"] for entry in entries})
        yield f"{title}, {'-'.join(map(str, counts))} each", entries


def _scores(title: str, entries: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(entry["task"] for entry in entries))
    rows = (
        (
            policy,
            _budgets([entry for entry in entries if entry["policy"] == policy]),
            *(_mean(_find(entries, task=name, policy=policy)) for name in names),
        )
        for policy in _policies(entries)
    )
    columns = (_shortened(name).split(" ")[-1] for name in names)
    return new_table(title, ("policy", "budget", *columns), rows)


def _versus_base(scores: Sequence[Row]) -> Table:
    """How each NAMM does on each task, beside the base and the best rule."""
    columns = ("task", "NAMM", "base", "score", "- base", "KB", "best rule", "score", "KB")
    rows = [
        row
        for name in dict.fromkeys(entry["task"] for entry in scores)
        for row in _task_rows([entry for entry in scores if entry["task"] == name])
    ]
    title = "NAMM beside the base and the best rule at equal memory; peak KB; 95% intervals"
    return new_table(title, columns, rows)


def _task_rows(entries: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    unruled = ("full", "window", "cache", "fifo")
    base = _find(entries, policy=BASES[entries[0]["modality"]])
    rules = [e for e in entries if not _is_namm(e["policy"]) and e["policy"] not in unruled]
    best = max(rules, key=lambda entry: entry["mean"], default=None)
    for entry in entries:
        if _is_namm(entry["policy"]):
            yield (
                _shortened(entry["task"]),
                entry["policy"].removeprefix("namm").strip(":-") or "namm",
                _mean(base),
                _mean(entry),
                interval_text(
                    *(entry[f"delta_{part}"] for part in ("vs_base", "base_low", "base_high"))
                ),
                number_text(entry["peak_bytes"], ".0f", 1e3),
                best["policy"] if best else "-",
                _mean(best),
                number_text(best["peak_bytes"] if best else None, ".0f", 1e3),
            )


def _changes(averages: Sequence[Row]) -> Table:
    columns, rows = _change_cells(averages)
    return new_table(_change_title(averages), columns, rows)


def _change_title(averages: Sequence[Row]) -> str:
    counts = {e["modality"]: e["n"] for e in averages if e["modality"] != ALL}
    over = ", ".join(f"{count} of {modality}" for modality, count in counts.items())
    return f"Average change against the base, %, over tasks ({over}) [95% interval]"


def _change_cells(averages: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    modalities = list(dict.fromkeys(entry["modality"] for entry in averages))
    rows = [
        [
            policy,
            *(_interval(_find(averages, modality=m, policy=policy), 100.0) for m in modalities),
        ]
        for policy in _policies(averages)
    ]
    return ["policy", *modalities], rows


def _parted(summary: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    scores = [entry for entry in summary if entry["metric"] != CHANGE]
    return scores, [entry for entry in summary if entry["metric"] == CHANGE]


def _policies(entries: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(entry["policy"] for entry in entries))


def _is_namm(policy: str) -> bool:
    return policy.startswith("namm")


def _find(entries: Sequence[Row], **wanted: str) -> Row | None:
    fits = (e for e in entries if all(e[name] == value for name, value in wanted.items()))
    return next(fits, None)


def _mean(entry: Row | None) -> str:
    return "-" if entry is None else f"{entry['mean']:.1f}"


def _interval(entry: Row | None, scale: float = 1.0) -> str:
    if entry is None:
        return "-"
    return interval_text(entry["mean"], entry["low"], entry["high"], scale)


def _budgets(entries: Sequence[Row]) -> str:
    """Tokens or share of a head, or their range over the tasks."""
    budgets = [entry["budget"] for entry in entries if entry["budget"] is not None]
    if not budgets:
        return "-"
    form = ".1%" if isinstance(budgets[0], float) else "d"
    low, high = format(min(budgets), form), format(max(budgets), form)
    return low if low == high else f"{low}-{high}"


def _shortened(task: str) -> str:
    name = task.split("/", 1)[1]
    if not task.startswith(("control/", "memory/")):
        return name.replace("-recall", "").replace("llama-", "").replace("/", " ")
    for long, short in _SHORT.items():
        name = name.replace(long, short)
    return name


def _markdown(columns: Sequence[str], rows: Iterator[list[str]] | list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
