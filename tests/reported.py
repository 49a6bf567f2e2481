"""Small results as the commands write them, for pages: numbers are made up, but add up."""

from collections.abc import Sequence
from pathlib import Path

from transfer.evaluation.store import SUMMARY_FIELDS, Results, json_line, write_results
from transfer.evolution.ledger import Ledger

#: What must never be run, wherever a page shows it.
NASTY = "</script><img src=x onerror=\"document.body.dataset.run='yes'\"><b>&amp;\u2028\\"
LENGTHS, DEPTHS, TASKS = (1024, 2048), ("0", "0.5", "1"), ("niah", "vt")
#: Policies with their budgets, and what is kept of each length under them.
WHO = (
    ("full", None, 1.0), ("namm", 0.25, 0.25), ("namm", 0.5, 0.5), ("h2o", 0.25, 0.25),
    ("h2o", 0.5, 0.5), ("h2o", 64, 0.1), ("namm:recall", None, 0.4),
)  # fmt: skip
MODEL = f"{NASTY}/smol"


def entry(policy, budget, mean, **more):
    """One of a summary; intervals are a tenth to either side."""
    told = {"policy": policy, "budget": budget, "metric": "score", "mean": mean, "n": 3}
    sides = {"low": mean - 0.1, "high": mean + 0.1, "group_by": "all", "group": "", "failed": 0}
    evicts = {"update_interval": None if policy in ("full", "window") else 16}
    return dict.fromkeys(SUMMARY_FIELDS) | told | sides | evicts | {"model": MODEL} | more


def _texts(tasks):
    for task in tasks:
        for length in LENGTHS:
            for place, (policy, budget, kept) in enumerate(WHO):
                mean = (1 + kept) / 2 - place / 97 - length / 16384
                base = 1 - length / 16384
                held = {
                    "kept": kept, "kept_tokens": kept * length, "held_mean": kept * length / 2,
                    "held_peak": kept * length + 16, "held_end": kept * length,
                    "held_mean_share": kept,
                    "held_peak_share": kept,
                    "bytes_mean": kept * length * 50.0, "peak_bytes": kept * length * 100.0,
                    "cache_bytes": kept * length * 90.0, "full_bytes": length * 100.0,
                    "seconds": 1.5,
                }  # fmt: skip
                against = {
                    "delta_vs_full": mean - base, "delta_low": mean - base - 0.05,
                    "delta_high": mean - base + 0.05,
                }  # fmt: skip
                about = {"task": task, "length": length, **held}
                yield entry(policy, budget, mean, **about, **against)
                likely = {"metric": "answer_log_likelihood", "mean": -mean, "low": None}
                yield entry(policy, budget, mean, **about) | likely
                for depth in DEPTHS:
                    by = {"group_by": "depth", "group": depth}
                    yield entry(policy, budget, mean - float(depth) / 10, **about, **by)


def _rows():
    for task in TASKS:
        for length in LENGTHS:
            for item, depth in enumerate(DEPTHS):
                for place, (policy, budget, kept) in enumerate(WHO):
                    failure = "no room" if (policy, item) == ("h2o", 2) else None
                    asked = {"task": task, "length": length, "item": item, "cluster": item}
                    who = {"policy": policy, "budget": budget, "block": str(item), "model": MODEL}
                    told = {
                        "score": 1 - place / 10 - float(depth) / 10, "reply": f"{NASTY} {place}",
                        "question_text": f"What is {item}? {NASTY}", "right": [NASTY, "42"],
                        "kept_tokens": kept * length, "tokens": length,
                    }  # fmt: skip
                    yield {**asked, **who, "failure": failure, **({} if failure else told)}


def texts(folder: Path, tasks: Sequence[str] = TASKS) -> Results:
    """A run of two tasks at two lengths, with depths, replies, and all kinds of budgets."""
    return _written(
        folder, kind="toy", command=f"transfer eval --model '{MODEL}'",
        metrics=["score", "answer_log_likelihood"], keys=["length"], notes=[NASTY],
        summary=list(_texts(tasks)), rows=list(_rows()),
    )  # fmt: skip


def episodes(folder: Path) -> Results:
    """A run of control in corridors of two lengths, whose rows tell how returns grew."""
    who = (("full", None), ("window", None), ("namm", 24))
    entries = [
        entry(policy, budget, place / 10, task=f"tmaze:length={length}", metric=metric,
              target_return=1.0, delta_vs_full=place / 10, delta_low=0.0, delta_high=0.1,
              delta_vs_window=-place / 10, delta_window_low=-0.1, delta_window_high=0.0)
        for length in (100, 200)
        for place, (policy, budget) in enumerate(who)
        for metric in ("success", "return")
    ]  # fmt: skip
    rows = [
        {"model": MODEL, "task": "tmaze:length=100", "policy": policy, "budget": budget,
         "item": seed, "block": "0", "failure": None, "target_return": 1.0, "success": 1.0,
         "returns": [0.0, 1.0 + seed, 2.0 + seed][: 3 - seed], "returns_every": 5}
        for policy, budget in who
        for seed in (0, 1)
    ]  # fmt: skip
    return _written(
        folder, kind="maze", command="transfer eval", metrics=["success", "return"],
        keys=["target_return"], summary=entries, rows=rows,
    )  # fmt: skip


def _written(folder: Path, **told) -> Results:
    results = Results(versions={"torch": "2"}, computed={"dtype": "float32"}, **told)
    write_results(folder, results)
    lines = map(json_line, results.rows)
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return results


def evolution(folder: Path, generations: int = 3) -> None:
    """The ledger of one search."""
    with Ledger(folder / "seed-0" / "ledger.jsonl") as ledger:
        for number in range(generations):
            held_out = {"mean": {"fitness": number / 2, "kept": 0.5}} if number % 2 == 0 else None
            told = {"fitness": [number / 4, number / 4 + 1, None], "kept": [0.25, 0.75]}
            about = {"stage": 0, "generation": number, "population": "x", "seconds": 1.0}
            ledger.append({**about, **told, "validation": held_out})
