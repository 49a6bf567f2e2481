"""What the tables of each kind of evaluation show; all within 100 columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import get_args

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transfer.evaluation import better, suite_table
from transfer.evaluation.control import Remembered
from transfer.evaluation.curves import Curves, curves
from transfer.evaluation.store import SUITE, Results
from transfer.evaluation.summary import ALL, FAMILY, NORMALISED
from transfer.evaluation.tables import (
    BUDGET,
    KINDS,
    POLICY,
    WIDTH,
    Column,
    Entry,
    Line,
    any_entry,
    budget_kind,
    budget_text,
    budget_words,
    build,
    difference,
    interval_text,
    lines,
    new_table,
    number,
    protected_words,
    score,
    shared_words,
    with_share,
)

_UNEVEN = (
    "Not all have the same items: a mean is over its own n, a difference over the items that both "
    "have."
)
_CEILING = (
    "kvzip is a ceiling and no contender: it holds the whole text until it prunes once, at its "
    "end, and has the model read it again to know what to keep."
)
#: Reasons of failure that are printed; all are in rows.jsonl.
_REASONS = 5

Part = Table | Text


def tables(results: Results) -> Group:
    """The tables of a run, and what failed and why."""
    if results.kind == SUITE:
        return Group(suite_table.tables(results), *_failures(results))
    parts: list[Part] = []
    pictured = curves(results)
    notes = [*results.notes]
    notes += [better.words(results)] if better.has_pairs(results) else []
    results = better.better_shared(results)
    for cell in _cells(results.summary, ("task", *results.keys)):
        whole = [entry for entry in cell if entry["group_by"] == ALL]
        if not whole:
            parts.append(_family(cell))
            continue
        layout = _LAYOUTS.get(results.kind, partial(_plain, results.keys))
        for words, own in _by_kind(whole):
            parts += [Text(f"{words}\n")] if words else []
            parts += [*layout(own), *_held(own)]
        parts += _by_groups(cell, results.metrics[0], _GROUPED.get(results.kind, _Grouped()))
    parts += map(_pivot, pictured)
    budgets = budget_words(entry["budget"] for entry in results.summary)
    said = protected_words(results.summary), shared_words(results.summary)
    notes += [note for note in (budgets, *said) if note]
    notes += [_UNEVEN] if _is_uneven(results.summary, ("task", *results.keys)) else []
    ceiling = any(entry["policy"].split(":")[0] == "kvzip" for entry in results.summary)
    notes += [_CEILING] if ceiling else []
    contexts = {entry.get("context") for entry in results.summary}
    notes += [_drift(context) for context in contexts if context]
    return Group(*parts, *_failures(results), *map(Text, notes))


def _by_kind(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Entries of one kind of budget at a time, with those that have none; the kind in words.

    Ranks under one say nothing of those under another. Where there is one kind there are no words.
    """
    kinds = {
        (entry["policy"], entry["budget"]): None
        if entry["policy"] in get_args(Remembered)
        else budget_kind(entry)
        for entry in entries
    }
    several = list(dict.fromkeys(filter(None, kinds.values())))
    for kind in several if len(several) > 1 else [None]:
        own = [e for e in entries if kinds[e["policy"], e["budget"]] in (kind, None) or not kind]
        yield KINDS[kind] if kind else "", own


def _held(entries: Sequence[Entry]) -> Iterator[Table]:
    """What is held by each, by which they may be compared; nothing where nobody measured it."""
    if not _says(entries, "kept_tokens"):
        return
    unit, size = _unit(entries)
    columns = (
        POLICY,
        BUDGET,
        with_share("mean", "held_mean", "held_mean_share"),
        with_share("peak", "held_peak", "held_peak_share"),
        with_share("end", "kept_tokens", "kept"),
        number(f"mean {unit}", "bytes_mean", ".1f", size),
        number(f"peak {unit}", "peak_bytes", ".1f", size),
        number(f"end {unit}", "cache_bytes", ".1f", size),
        number(f"full {unit}", "full_bytes", ".1f", size),
    )
    title = (
        "Tokens of a head, % of the full cache's, and bytes: mean over the tokens seen, peak, end"
    )
    yield build(title, columns, lines(entries))


def _unit(entries: Sequence[Entry]) -> tuple[str, float]:
    """That of bytes, by what the full cache has."""
    most = max((entry["full_bytes"] or 0 for entry in entries), default=0)
    return ("MB", 1e6) if most >= 1e7 else ("KB", 1e3)


def _cells(entries: Sequence[Entry], fields: Sequence[str]) -> list[list[Entry]]:
    """The entries of each task and what else it is about."""
    found: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        found.setdefault(tuple(entry[field] for field in fields), []).append(entry)
    return list(found.values())


def _is_uneven(entries: Sequence[Entry], fields: Sequence[str]) -> bool:
    """Whether contenders that are compared have scores of different numbers of items."""
    cells = _cells(entries, (*fields, "group_by", "group", "metric"))
    return any(len({entry["n"] for entry in cell}) > 1 for cell in cells)


def _counts(entries: Sequence[Entry], name: str = "n") -> str:
    """Of how many items the scores are: `5`, or `2-5` where some have fewer."""
    counts = [entry[name] for entry in entries]
    return "-".join(map(str, sorted({min(counts), max(counts)})))


def _own_counts(entries: Sequence[Entry]) -> tuple[Column, ...]:
    """A column of them, where the title cannot say it."""
    return (number("n", "n", "d"),) if _is_uneven(entries, ()) else ()


def _language(entries: Sequence[Entry]) -> Iterator[Part]:
    """What fits the scores: answers of symbols, replies in words, or likelihood alone."""
    layouts = {"correct": _answers, "score": _replies, "log_likelihood": _likelihoods}
    yield from layouts[entries[0]["metric"]](entries)


def _replies(entries: Sequence[Entry]) -> Iterator[Part]:
    """Scores of replies and the likelihood of the right one, beside what they cost."""
    first = entries[0]
    tokens = "" if first["length"] is None else f", {first['length']} tokens"
    title = (
        f"{_short(first)} on {first['task']}{tokens}, question {first['question']}: "
        f"{_counts(entries)} prompts of {first['prompt_tokens']:.0f} tokens, "
        "LL of a token of the right answer; 95% intervals"
    )
    columns = (
        POLICY,
        BUDGET,
        *_own_counts(entries),
        number("tokens", "kept_tokens", ".0f"),
        number("MB", "cache_bytes", ".1f", 1e6),
        score("score %", "score", 100.0),
        difference("- full", "score", scale=100.0),
        difference("LL - full", "answer_log_likelihood", digits=2),
    )
    yield build(title, columns, lines(entries))
    whole = next((e for e in entries if e["policy"] == "full" and e["metric"] == "score"), None)
    if whole and (whole["mean"] if whole["low"] is None else whole["low"]) <= whole["chance"]:
        yield Text(
            f"The full cache is not above chance ({whole['chance']:.1%}) on {first['task']}: "
            "no policy can be judged here.\n"
        )


def _short(entry: Entry) -> str:
    """The model's name without its folders."""
    return PurePath(entry["model"]).name


def _likelihoods(entries: Sequence[Entry]) -> Iterator[Part]:
    """The likelihood of texts, beside what it costs."""
    first = entries[0]
    title = (
        f"{_short(first)}, {_counts(entries)} windows of {first['length']} tokens of "
        f"{first['texts']} texts; LL: of a token; 95% intervals"
    )
    columns = (
        POLICY,
        BUDGET,
        *_own_counts(entries),
        number("tokens", "kept_tokens", ".0f"),
        number("MB", "cache_bytes", ".1f", 1e6),
        number("perplexity", "perplexity", ".2f"),
        score("LL", "log_likelihood", digits=3),
        difference("- full", "log_likelihood", digits=3),
    )
    yield build(title, columns, lines(entries))


def _family(entries: Sequence[Entry]) -> Table:
    """Means over the tasks of a family."""
    first, metric = entries[0], entries[0]["metric"]
    tasks = max(entry["n"] for entry in entries if entry["metric"] == NORMALISED)
    about = ", ".join(str(first[key]) for key in ("length", "question") if first.get(key))
    columns = (
        POLICY,
        BUDGET,
        number("MB", "cache_bytes", ".1f", 1e6),
        score("mean score %", metric, 100.0, 2),
        difference("- full", metric, scale=100.0, digits=2),
        score("% of full", NORMALISED, 100.0),
    )
    title = (
        f"{_short(first)} on all of {first['task']} ({about}): means over tasks; % of full: of the "
        f"{tasks} on which it scores"
    )
    return build(title, columns, lines(entries))


def _answers(entries: Sequence[Entry]) -> Iterator[Part]:
    """Recall and likelihood of answers in symbols, beside what they cost."""
    first = entries[0]
    tokens = "" if first["length"] is None else f" {first['length']} tokens,"
    title = (
        f"{first['model']} on {first['task']},{tokens} {_counts(entries)} documents; "
        "LL: log-likelihood of a token; 95% intervals"
    )
    columns = (
        POLICY,
        *_own_counts(entries),
        number("tokens", "kept_tokens", ".1f"),
        number("KB", "cache_bytes", ".1f", 1e3),
        score("recall %", "correct", 100.0),
        difference("- full", "correct", scale=100.0),
        Column("LL", lambda line: f"{line['log_likelihood']['mean']:.3f}"),
        difference("- full", "log_likelihood", digits=3),
    )
    # Budgets are told apart by the tokens kept; a column more would not fit beside two intervals.
    yield build(title, columns, lines(entries))


def _control(entries: Sequence[Entry]) -> Iterator[Part]:
    """Scores, and what they cost."""
    first, metric = entries[0], entries[0]["metric"]
    scored = {"d4rl_score": "D4RL scores", "success": "success in %"}.get(metric, "returns")
    scale, returns = (100.0, ".2f") if metric == "success" else (1.0, ".0f")
    title = (
        f"{first['model']} in {first['task']}, target return {first['target_return']:g}; "
        f"{scored} with 95% intervals"
    )
    columns = (
        number("n", "n", "d"),
        Column("return", lambda line: _plus_minus(line["return"], returns)),
        score("score", metric, scale),
        Column("IQM", lambda line: f"{scale * line[metric]['iqm']:.1f}"),
        difference("- window", metric, "window", scale),
        difference("- full", metric, scale=scale),
    )
    costs = (
        number("steps", "length", ".0f"),
        number("age", "kept_age", ".0f"),
        *(number("cues", "kept_cues", ".0%") for _ in entries[:1] if _says(entries, "kept_cues")),
        number("env s", "simulator_seconds", ".1f"),
        number("model s", "transformer_seconds", ".1f"),
        number("policy s", "policy_seconds", ".1f"),
    )
    own = lines(entries)
    names = [POLICY.text(line) for line in own]
    who = (POLICY,) if len(set(names)) == len(names) else (POLICY, BUDGET)
    yield build(title, (*who, *columns), own)
    yield build(
        "Steps, mean age of the tokens held at the end in steps, wall time", (*who, *costs), own
    )


def _pivot(found: Curves) -> Table:
    """Scores side by side, of budgets or of settings of the environment."""
    word, values = found.across
    rows = [(policy, *map(_share, entries)) for policy, entries in found.lines.items()]
    flat = [(policy, *[_share(entry)] * len(values)) for policy, entry in found.flat.items()]
    return new_table(f"{found.about}: by {word}, [95%]", ("policy", *values), flat + rows)


def _share(entry: Entry | None) -> str:
    if entry is None:
        return "-"
    scale, digits = (100.0, 0) if entry["metric"] == "success" else (1.0, 1)
    return interval_text(entry["mean"], entry["low"], entry["high"], scale, digits)


def _says(entries: Sequence[Entry], field: str) -> bool:
    """Whether any has a value there; those of earlier versions have no such field."""
    return any(entry.get(field) is not None for entry in entries)


def _plus_minus(entry: Entry, form: str) -> str:
    return f"{entry['mean']:{form}} ± {entry['std']:{form}}"


def _video(entries: Sequence[Entry]) -> Iterator[Part]:
    """Accuracy and costs of every policy."""
    first, own = entries[0], lines(entries)
    over = f", mean of {_categories(first)}" if first["aggregation"] == "macro" else ""
    title = (
        f"{PurePath(first['model']).name} on {first['task']}: {_counts(entries)} questions"
        f"{_unscored(entries)}, {first['videos']} videos, {first['frames']:g} frames, "
        f"chance {first['chance']:.1%}; "
        f"% right{over} [95%]"
    )
    columns = (
        POLICY,
        BUDGET,
        *_own_counts(entries),
        score("likelihood", "correct_likelihood", 100.0),
        difference("- full", "correct_likelihood", scale=100.0),
        score("reply", "correct_reply", 100.0),
        number("unread", "unparsed", "d"),
    )
    unit, size = _unit(entries)
    costs = (
        POLICY,
        BUDGET,
        number("video", "kept_video_tokens", ".1f"),
        number("text", "kept_text_tokens", ".1f"),
        *(number(f"{part} {unit}", f"{part}_bytes", ".1f", size) for part in ("video", "text")),
        *(_milliseconds(part) for part in ("prefill", "answer")),
    )
    yield build(title, columns, own)
    yield build(
        "Tokens of a layer and head after the prompt and their bytes, time of a question",
        costs,
        own,
    )
    yield Text(
        f"Decoding took {first['decode_seconds']:.1f} s and the vision tower "
        f"{first['vision_seconds']:.1f} s, once for all policies.\n"
    )


def _milliseconds(part: str) -> Column:
    def text(line: Line) -> str:
        entry = any_entry(line)
        return f"{1e3 * entry[f'{part}_seconds'] / entry['questions']:.1f}"

    return Column(f"{part} ms", text)


def _unscored(entries: Sequence[Entry]) -> str:
    """How many questions are in no score, nobody can answer, or are not understood, if any."""
    kinds = {
        "failed": "failed",
        "withheld": "with answers withheld",
        "none_right": "unanswerable",
        "unknown": "with words unknown to the model",
    }
    said = [
        f"{_counts(entries, name)} {what}"
        for name, what in kinds.items()
        if any(entry.get(name) for entry in entries)
    ]
    return f" ({', '.join(said)})" if said else ""


def _categories(entry: Entry) -> str:
    scored, there = entry["scored_categories"], entry["categories"]
    return f"{scored} categories" if scored == there else f"{scored} of {there} categories"


def _plain(keys: Sequence[str], entries: Sequence[Entry]) -> Iterator[Part]:
    """Of a benchmark from outside: every metric, and what it costs."""
    first, metrics = entries[0], list(dict.fromkeys(entry["metric"] for entry in entries))
    columns = (
        POLICY,
        BUDGET,
        *_own_counts(entries),
        number("tokens", "kept_tokens", ".1f"),
        number("KB", "cache_bytes", ".1f", 1e3),
        *(score(metric, metric, digits=3) for metric in metrics),
        difference("- full", metrics[0], digits=3),
    )
    about = "".join(f", {key} {first[key]}" for key in keys)
    title = f"{first['model']} on {first['task']}{about}: n {_counts(entries)}; 95% intervals"
    yield build(title, columns, lines(entries))


_LAYOUTS: Mapping[str, Callable[[Sequence[Entry]], Iterator[Part]]] = {
    "language": _language,
    "control": _control,
    "video": _video,
}


@dataclass(frozen=True)
class _Grouped:
    """How the scores of groups are shown.

    Attributes:
        title: of the table.
        scale, digits: of a score.
    """

    title: str = "{metric} by {field} (n)"
    scale: float = 1.0
    digits: int = 3

    def text(self, entry: Entry) -> str:
        """A score with its interval."""
        bounds = entry["mean"], entry["low"], entry["high"]
        return interval_text(*bounds, self.scale, self.digits)


_GROUPED = {"video": _Grouped("Likelihood accuracy by {field} (questions)", 100.0, 0)}


def _by_groups(entries: Sequence[Entry], metric: str, form: _Grouped) -> Iterator[Table]:
    for field in dict.fromkeys(entry["group_by"] for entry in entries):
        own = [entry for entry in entries if entry["group_by"] == field]
        if field not in (ALL, FAMILY):
            title = form.title.format(metric=metric, field=field.replace("_", " "))
            yield from _by_group(title, [e for e in own if e["metric"] == metric], form)


def _by_group(title: str, entries: Sequence[Entry], form: _Grouped) -> Iterator[Table]:
    """As many groups side by side as fit, one line a policy and budget."""
    contenders = [(POLICY.text(line), BUDGET.text(line)) for line in lines(entries)]
    # Of the policy, of the budget, and at the edges.
    room = WIDTH - max(len(policy) for policy, _ in contenders) - 10
    left, columns = room, []
    for group in dict.fromkeys(entry["group"] for entry in entries):
        column = [entry for entry in entries if entry["group"] == group]
        lost = _counts(column, "failed")
        failed = "" if lost == "0" else f", {lost} failed"
        head = f"{group or '-'} ({_counts(column)}{failed})"
        # Who failed at the whole group has no cell.
        cells = {(e["policy"], budget_text(e["budget"])): form.text(e) for e in column}
        needed = 2 + max(map(len, [head, *cells.values()]))
        if columns and left < needed:
            yield _group_table(title, contenders, columns)
            left, columns = room, []
        left -= needed
        columns.append((head, cells))
    yield _group_table(title, contenders, columns)


def _group_table(
    title: str,
    contenders: Sequence[tuple[str, str]],
    columns: Sequence[tuple[str, Mapping[tuple[str, str], str]]],
) -> Table:
    heads = ("policy", "budget", *(head for head, _ in columns))
    rows = ((*one, *(cells.get(one, "-") for _, cells in columns)) for one in contenders)
    return new_table(title, heads, rows)


def _failures(results: Results) -> Iterator[Text]:
    """How many failed, and the first reasons."""
    failed = [row for row in results.rows if row["failure"] is not None]
    if not failed:
        return
    yield Text(f"Failed, and in no mean: {len(failed)} of {len(results.rows)} rows")
    for reason in results.failures[:_REASONS]:
        # Ids and paths may hold what cannot be printed.
        yield Text(f"  {reason}".encode("utf-8", "backslashreplace").decode())
    if len(results.failures) > _REASONS:
        more = len(results.failures) - _REASONS
        yield Text(f"  and {more} more reasons, all in rows.jsonl")


def _drift(context: int) -> str:
    """What may be compared with what."""
    return (
        f"All but window run incrementally and drift from it after {context} steps even with the "
        "same tokens: cached entries attended to tokens that are gone since."
    )
