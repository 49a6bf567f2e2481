"""What one block, one contender or one item may do to a run without ending it, and what ends it."""

import json

import pytest
import torch
from evaluated import failures_of, printed, rows_of
from toy_benchmark import Toy

from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation.benchmark import ROW_FIELDS
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_lines
from transfer.evaluation.worker import BlockWorker, Job

WORDS = [
    "eval", "language", "--model", "dice", "--task", "toy_benchmark:Toy", "--documents", "5",
    "--batch", "2", "--policy", "h2o", "recency", "--budget", "8", "--threads", "1",
]  # fmt: skip
#: What says that there is too little memory: of a GPU, of Python, and of torch on a CPU.
SCARCE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines."),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory:"
        " you tried to allocate 8 bytes."
    ),
]


def happening(monkeypatch, error, policy, item):
    """Let a contender raise when it is asked about an item."""

    def happens(asked_policy, asked_item):
        if (asked_policy, asked_item) == (policy, item):
            raise error

    monkeypatch.setattr(Toy, "happens", staticmethod(happens))


def unprepared(monkeypatch, error, name):
    def prepares(block):
        if block == name:
            raise error

    monkeypatch.setattr(Toy, "prepares", staticmethod(prepares))


def test_a_row_says_what_all_rows_say_and_what_its_item_and_contender_are(toy):
    worker = BlockWorker(toy())
    rows = worker.rows(Job(block=1, contenders=(0, 2)))
    assert [(row["item"], row["policy"]) for row in rows] == [
        (2, "full"), (3, "full"), (2, "recency"), (3, "recency"),
    ]  # fmt: skip
    for row in rows:
        assert tuple(row)[: len(ROW_FIELDS)] == ROW_FIELDS
        assert (row["model"], row["task"], row["block"]) == ("dice", "throws", "from 2")
        assert row["cluster"] == 1 and row["colour"] == ("red", "blue")[row["item"] % 2]
        assert row["kept"] == row["kept_tokens"] / row["tokens"]
        assert row["failure"] is None and row["seconds"] >= 0 and row["eviction"] in (None, "exact")


@pytest.mark.parametrize("error", [UserError("no lamp"), *SCARCE], ids=lambda e: type(e).__name__)
def test_a_block_that_cannot_be_prepared_fails_under_every_contender(toy, monkeypatch, error):
    unprepared(monkeypatch, error, "from 2")
    results = evaluate(toy())
    assert set(failures_of(results)) == {2, 3}
    for policy in ("full", "h2o", "recency"):
        rows = rows_of(results, policy)
        assert [(row["item"], row["failure"] is None) for row in rows] == [
            (0, True), (1, True), (2, False), (3, False), (4, True),
        ]  # fmt: skip
        assert all(row["points"] is row["tokens"] is None for row in rows if row["failure"])
    whole = [entry for entry in results.summary if not entry["group"]]
    assert {(entry["colour"], entry["n"], entry["failed"]) for entry in whole} == {
        ("red", 2, 1),
        ("blue", 1, 1),
    }


@pytest.mark.parametrize("error", SCARCE, ids=lambda error: type(error).__name__)
def test_who_runs_out_of_memory_fails_from_there_on_and_nobody_else(
    toy, monkeypatch, capsys, error
):
    whole = evaluate(toy())
    happening(monkeypatch, error, "h2o", 3)
    results = evaluate(toy())
    [failed] = [row for row in results.rows if row["failure"] is not None]
    assert (failed["policy"], failed["item"], failed["points"]) == ("h2o", 3, None)
    said = str(error).strip().splitlines()[0].rstrip(".:") if str(error) else "MemoryError"
    assert failed["failure"] == (
        f"too little memory ({said}); use shorter inputs, or fewer at once"
    )
    before = {(row["policy"], row["item"]): row["points"] for row in whole.rows}
    assert all(
        row["points"] == before[row["policy"], row["item"]]
        for row in results.rows
        if row is not failed
    )
    assert main([*WORDS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["summary"]
    assert {e["policy"] for e in found if e["failed"]} == {"h2o"}


def test_the_rest_of_a_block_fails_with_the_item_at_which_a_contender_gave_up(toy, monkeypatch):
    happening(monkeypatch, MemoryError(), "recency", 1)
    results = evaluate(toy(batch=4))
    assert [row["item"] for row in rows_of(results, "recency") if row["failure"]] == [1, 2, 3]
    assert not any(row["failure"] for row in rows_of(results, "h2o") + rows_of(results, "full"))


def test_a_contender_of_which_everything_failed_is_exit_code_1_and_the_rows_are_kept(
    monkeypatch, capsys, tmp_path
):
    def happens(policy, item):
        if policy == "h2o":
            raise MemoryError

    monkeypatch.setattr(Toy, "happens", staticmethod(happens))
    assert main([*WORDS, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == "error: every item of h2o failed; see above\n"
    assert "Failed, and in no mean: 5 of 15 rows" in said.out
    assert "0: too little memory (MemoryError)" in said.out
    rows = read_lines(tmp_path / "rows.jsonl")
    assert len(rows) == 15
    assert {row["policy"] for row in rows if row["failure"]} == {"h2o"}
    summary = json.loads((tmp_path / "results.json").read_text())["summary"]
    assert {entry["policy"] for entry in summary} == {"full", "recency"}


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ZeroDivisionError()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("where", ["rows", "prepared"])
def test_any_other_error_ends_the_run_and_keeps_its_rows(toy, monkeypatch, tmp_path, error, where):
    if where == "rows":
        happening(monkeypatch, error, "h2o", 3)
    else:
        unprepared(monkeypatch, error, "from 2")
    with pytest.raises(type(error)):
        evaluate(toy(out=tmp_path))
    items = [(row["policy"], row["item"]) for row in read_lines(tmp_path / "rows.jsonl")]
    first = [(policy, item) for policy in ("full", "h2o", "recency") for item in (0, 1)]
    more = [("full", 2), ("full", 3), ("h2o", 2)] if where == "rows" else []
    assert items == first + more
    assert not (tmp_path / "results.json").exists()
    assert Toy.calls == ["close"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_no_number_fails_its_item_alone(toy, monkeypatch, tmp_path, number):
    original = Toy.rows

    def rows(self, ready, contender):
        for row in original(self, ready, contender):
            wrong = (contender.name, row["item"]) == ("recency", 2)
            yield {**row, "bonus": number} if wrong else row

    monkeypatch.setattr(Toy, "rows", rows)
    results = evaluate(toy(out=tmp_path))
    [failed] = [row for row in results.rows if row["failure"] is not None]
    assert (failed["policy"], failed["item"]) == ("recency", 2)
    assert failed["failure"] == f"item 2: bonus is {number}; use another --dtype"
    # Not even the metric that was measured; what it cost was.
    assert failed["points"] is failed["bonus"] is None and failed["cache_bytes"] == 1000
    assert read_lines(tmp_path / "rows.jsonl") == results.rows


def test_an_item_without_a_score_has_costs_and_is_no_failure(toy, monkeypatch):
    original = Toy.rows

    def rows(self, ready, contender):
        for row in original(self, ready, contender):
            yield {**row, "points": None} if row["item"] == 0 else row

    monkeypatch.setattr(Toy, "rows", rows)
    results = evaluate(toy())
    assert failures_of(results) == {}
    red = [e for e in results.summary if e["colour"] == "red" and not e["group"]]
    assert {(e["metric"], e["n"], e["failed"]) for e in red} == {("points", 2, 0), ("bonus", 3, 0)}


def test_reasons_are_printed_once_each_and_the_first_five(toy, monkeypatch):
    def happens(policy, item):
        raise UserError(f"item {item} is not there")

    monkeypatch.setattr(Toy, "happens", staticmethod(happens))
    results = evaluate(toy(documents=7, batch=1))
    assert results.summary == []
    text = printed(results)
    assert "Failed, and in no mean: 21 of 21 rows" in text
    assert text.count("is not there") == 5
    assert "  4: item 4 is not there\n  and 2 more reasons, all in rows.jsonl" in text


def test_who_failed_at_a_whole_group_has_no_cell_there(toy, monkeypatch):
    def happens(policy, item):
        if policy == "h2o" and item % 3 == 0:
            raise MemoryError

    monkeypatch.setattr(Toy, "happens", staticmethod(happens))
    text = printed(evaluate(toy(documents=8, batch=1)))
    red, blue = text.split("colour blue")
    assert "dice on throws, colour red: n 2-4" in red
    rows = [line.split() for line in red.splitlines() if line.startswith((" h2o", "h2o"))]
    # The large ones are 0 and 6 of the red.
    assert rows[1][:3] == ["h2o", "8", "-"]
    assert "points by size (n)" in red and "points by size (n)" in blue
