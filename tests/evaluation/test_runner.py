"""Blocks times contenders: interrupted, killed, resumed, and done in other processes."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
import toy_benchmark
from evaluated import changed, failures_of, printed, rows_of, timeless
from toy_benchmark import DYING, Toy

from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation import runner
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import ContenderOptions, RunOptions
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import read_lines, read_results
from transfer.evaluation.summary import ALL
from transfer.plugins import BENCHMARKS, register

#: Every item under every contender, in order.
ORDER = [
    (policy, item)
    for block in ((0, 1), (2, 3), (4,))
    for policy in ("full", "h2o", "recency")
    for item in block
]


class Killed(BaseException):
    """As little expected as SIGKILL."""


@pytest.fixture
def asked(monkeypatch):
    """Who was asked what; `asked.stop(error, at)` lets the run end there."""

    class Asked(list):
        def stop(self, error, at):
            self.error, self.at = error, at

        def __call__(self, policy, item):
            if self.at == (policy, item):
                self.at = None
                raise self.error
            self.append((policy, item))

    calls = Asked()
    calls.stop(None, None)
    monkeypatch.setattr(Toy, "happens", calls)
    return calls


def lines_of(folder):
    return timeless(read_lines(folder / "rows.jsonl"))


def ends_of(folder):
    """Who ended what; the digests are of rows with their times."""
    return [{**line, "digest": ""} for line in read_lines(folder / "blocks.jsonl")]


def untimed(results):
    said = {"summary": timeless(results.summary), "command": "", "digest": ""}
    return results.as_json() | said


def test_a_benchmark_from_outside_is_run_by_its_spelling(toy, asked, tmp_path):
    results = evaluate(toy(out=tmp_path))
    assert asked == ORDER
    assert (results.kind, results.metrics, results.keys) == (
        "toy",
        ("points", "bonus"),
        ("colour",),
    )
    assert [(row["policy"], row["item"]) for row in results.rows] == ORDER
    whole = [entry for entry in results.summary if entry["group_by"] == ALL]
    assert [(e["colour"], e["policy"], e["metric"], e["n"]) for e in whole] == [
        (colour, policy, metric, n)
        for colour, n in (("red", 3), ("blue", 2))
        for policy in ("full", "h2o", "recency")
        for metric in ("points", "bonus")
    ]
    groups = {(e["colour"], e["group"]): e["n"] for e in results.summary if e["group_by"] == "size"}
    assert groups == {("red", "l"): 1, ("red", "s"): 2, ("blue", "l"): 1, ("blue", "s"): 1}
    for entry in whole:
        rows = rows_of(results, entry["policy"], colour=entry["colour"])
        assert entry["mean"] == pytest.approx(sum(row[entry["metric"]] for row in rows) / len(rows))
        assert entry["tries"] == sum(row["tries"] for row in rows) / len(rows)
        assert entry["thinking_seconds"] == 0.5 * len(rows)
    assert Toy.calls == ["finish with full h2o recency", "close"]
    read = read_results(tmp_path)
    assert (read.as_json(), read.rows) == (results.as_json(), results.rows)
    assert results.command.startswith(
        "transfer eval language --model dice --task toy_benchmark:Toy"
    )


def test_a_registered_benchmark_is_run_by_its_name(toy):
    with pytest.raises(UserError, match="unknown"):
        evaluate(toy(task=("dice-of-tests",)))
    register("benchmark", "dice-of-tests", Toy)
    try:
        assert evaluate(toy(task=("dice-of-tests",))).kind == "toy"
    finally:
        BENCHMARKS._registered.pop("dice-of-tests")


def test_a_benchmark_from_outside_is_named_alone(toy):
    with pytest.raises(
        UserError, match="task toy_benchmark:Toy is a benchmark of its own; name it"
    ):
        evaluate(toy(task=("recall", "toy_benchmark:Toy")))


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        (
            lambda self: [*BLOCKS(self), BLOCKS(self)[0]],
            "Toy has more than one block 'from 0'; give",
        ),
        (
            lambda self: [*BLOCKS(self), type(BLOCKS(self)[0])("again", BLOCKS(self)[0].items)],
            r"Toy has more than one item \('throws', 'red', 0\); give each a name of its own",
        ),
    ],
)
def test_names_that_would_mix_rows_up_are_refused(toy, monkeypatch, blocks, sentence):
    monkeypatch.setattr(Toy, "blocks", blocks)
    with pytest.raises(UserError, match=sentence):
        evaluate(toy())


BLOCKS = Toy.blocks


def test_what_is_there_after_ctrl_c_is_paired(toy, asked, tmp_path):
    asked.stop(KeyboardInterrupt(), ("recency", 2))
    results = evaluate(toy(out=tmp_path))
    assert results.interrupted and asked == ORDER[:10]
    n = {
        (entry["policy"], entry["colour"]): (entry["n"], entry["delta_vs_full"] is not None)
        for entry in results.summary
        if entry["group_by"] == ALL
    }
    assert n == {
        (policy, colour): (1 if policy == "recency" else 2, True)
        for policy in ("full", "h2o", "recency")
        for colour in ("red", "blue")
    }
    said = printed(results)
    assert "on throws, colour red: n 1-2; 95% intervals" in said
    assert ["policy", "budget", "n", "tokens"] in [line.split()[:4] for line in said.splitlines()]
    assert "Not all have the same items: a mean is over its own n, a difference" in said
    read = read_results(tmp_path)
    assert (read.as_json(), read.rows) == (results.as_json(), results.rows)
    # A film is made of a whole run alone.
    assert Toy.calls == ["close"]
    assert "Not all" not in printed(evaluate(toy()))


def test_ctrl_c_is_exit_code_130_and_the_command_goes_on_from_there(toy, asked, tmp_path, capsys):
    words = [
        "eval", "language", "--model", "dice", "--task", "toy_benchmark:Toy", "--documents", "5",
        "--batch", "2", "--policy", "h2o", "recency", "--budget", "8", "--threads", "1",
        "--out", str(tmp_path),
    ]  # fmt: skip
    asked.stop(KeyboardInterrupt(), ("h2o", 4))
    assert main(words) == 130
    said = capsys.readouterr().err
    assert said == (
        f"interrupted: 13 rows are kept in {tmp_path}; the same command goes on from there\n"
    )
    assert main(words) == 0
    assert asked == [*ORDER[:13], *ORDER[13:]]


def test_sigterm_does_what_ctrl_c_does(toy, monkeypatch, tmp_path, capsys):
    def happens(policy, item):
        if (policy, item) == ("h2o", 4):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Toy, "happens", happens)
    words = ["eval", "language", "--model", "dice", "--task", "toy_benchmark:Toy"]
    assert main([*words, "--documents", "5", "--policy", "h2o", "--out", str(tmp_path)]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert read_results(tmp_path).interrupted
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert main(["report", str(tmp_path)]) == 0
    assert "interrupted: that is what had ended" in capsys.readouterr().err


def test_a_sigterm_that_is_ignored_stays_so(toy, monkeypatch):
    heard = []
    monkeypatch.setattr(
        Toy, "happens", lambda policy, item: heard.append(signal.getsignal(signal.SIGTERM))
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        words = ["eval", "language", "--model", "dice", "--task", "toy_benchmark:Toy"]
        assert main([*words, "--documents", "1", "--policy", "h2o"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(heard) == {signal.SIG_IGN}


def test_a_report_of_what_failed_everywhere_ends_as_the_run_did(toy, monkeypatch, tmp_path, capsys):
    def happens(policy, item):
        raise MemoryError("no room")

    monkeypatch.setattr(Toy, "happens", happens)
    words = ["eval", "language", "--model", "dice", "--task", "toy_benchmark:Toy"]
    assert main([*words, "--documents", "2", "--policy", "h2o", "--out", str(tmp_path)]) == 1
    ran = capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 1
    again = capsys.readouterr()
    assert again.out.startswith(ran.out) and again.err == ran.err
    assert ran.err == "error: every item of full, h2o failed; see above\n"


@pytest.mark.parametrize("at", range(len(ORDER)))
def test_a_killed_run_goes_on_to_the_same_bytes(toy, asked, tmp_path, at):
    whole = evaluate(toy(out=tmp_path / "whole"))
    asked.clear()
    asked.stop(Killed(), ORDER[at])
    config = toy(out=tmp_path / "killed")
    with pytest.raises(Killed):
        evaluate(config)
    assert asked == ORDER[:at]
    assert not (tmp_path / "killed/results.json").exists()
    with (tmp_path / "killed/rows.jsonl").open("a") as file:
        file.write('{"model": "dice", "ta')
    resumed = evaluate(config)
    # The block under way is asked again as a whole, those that had ended are not.
    began = next(place for place, one in enumerate(ORDER) if _block(one) == _block(ORDER[at]))
    assert asked == ORDER[:at] + ORDER[began:]
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "whole")
    assert untimed(resumed) == untimed(whole)
    killed, never = (tmp_path / run for run in ("killed", "whole"))
    assert (killed / "settings.json").read_text() == (never / "settings.json").read_text()
    assert ends_of(killed) == ends_of(never)
    again = evaluate(config)
    assert asked == ORDER[:at] + ORDER[began:]
    assert again.rows == resumed.rows and again.summary == resumed.summary


def _block(one):
    return one[0], one[1] // 2


def row_doubled(rows, blocks):
    return [*rows, rows[2]], blocks


def end_doubled(rows, blocks):
    return rows, [*blocks, blocks[0]]


def row_of_another_block(rows, blocks):
    return [*rows, {**rows[0], "block": "from 9"}], blocks


def row_of_another_policy(rows, blocks):
    return [{**rows[0], "policy": "tova"}, *rows], blocks


def row_of_another_item(rows, blocks):
    return [*rows[:4], {**rows[4], "item": 9}, *rows[5:]], blocks


def row_of_nothing(rows, blocks):
    return [{"seed": 0}, *rows], blocks


def end_of_another_budget(rows, blocks):
    return rows, [*blocks, {**blocks[1], "budget": 9}]


def score_changed(rows, blocks):
    return [*rows[:4], {**rows[4], "points": 7.0}, *rows[5:]], blocks


def whole_number_changed(rows, blocks):
    return [*rows[:4], {**rows[4], "tokens": 100.0}, *rows[5:]], blocks


def mixed_up(rows, blocks):
    return rows[::-1], blocks


def digest_changed(rows, blocks):
    return rows, [*blocks[:2], {**blocks[2], "digest": "0"}, *blocks[3:]]


def number_changed(rows, blocks):
    return rows, [*blocks[:2], {**blocks[2], "rows": 3}, *blocks[3:]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (row_doubled, r"line 16 of .*rows.jsonl repeats what line 3 is of; remove one of them"),
        (end_doubled, r"line 10 of .*blocks.jsonl repeats what line 1 is of; remove one of them"),
        (row_of_another_block, r"line 16 of .*rows.jsonl is of item 0 of block 'from 9' under"),
        (
            row_of_another_policy,
            r"line 1 of .*rows.jsonl is of item 0 of block 'from 0' under 'to",
        ),
        (row_of_another_item, r"line 5 of .*rows.jsonl is of item 9 .*does not ask; remove it or"),
        (row_of_nothing, r"line 1 of .*rows.jsonl is damaged; remove it or choose another"),
        (end_of_another_budget, r"line 10 of .*blocks.jsonl is of block .* budget 9, which this"),
        (score_changed, r"lines 5 to 6 of .*rows.jsonl are not the rows of which line 3 of"),
        (whole_number_changed, r"lines 5 to 6 of .*rows.jsonl are not the rows of which line 3"),
        (mixed_up, r"lines 14 to 15 of .*rows.jsonl are not the rows of which line 1 of"),
        (digest_changed, r"lines 5 to 6 of .*rows.jsonl are not the rows of which line 3 of"),
        (number_changed, r"lines 5 to 6 of .* line 3 of blocks.jsonl tells .*remove that line to"),
    ],
)
def test_rows_that_do_not_belong_are_refused_and_left_as_they_are(
    toy, asked, tmp_path, change, sentence
):
    config = toy(out=tmp_path)
    evaluate(config)
    write(tmp_path, *change(*(read_lines(tmp_path / name) for name in FILES)))
    asked.clear()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=sentence):
        evaluate(config)
    assert asked == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_remedy_runs_the_block_again(toy, asked, tmp_path):
    config = toy(out=tmp_path)
    whole = evaluate(config)
    rows, blocks = score_changed(*(read_lines(tmp_path / name) for name in FILES))
    write(tmp_path, rows, [*blocks[:2], *blocks[3:]])
    asked.clear()
    assert untimed(evaluate(config)) == untimed(whole)
    assert asked == ORDER[4:6]


def test_what_an_earlier_version_ended_without_a_digest_is_asked_again(toy, asked, tmp_path):
    config = toy(out=tmp_path)
    whole = evaluate(config)
    rows, blocks = (read_lines(tmp_path / name) for name in FILES)
    write(tmp_path, rows, [{n: b[n] for n in ("block", "policy", "budget")} for b in blocks])
    asked.clear()
    assert untimed(evaluate(config)) == untimed(whole)
    assert asked == ORDER


def row_lost(rows, blocks):
    return [row for row in rows if (row["policy"], row["item"]) != ("h2o", 3)], blocks


def end_lost(rows, blocks):
    return rows, [one for one in blocks if (one["policy"], one["block"]) != ("h2o", "from 2")]


def rows_cut(rows, blocks):
    return rows[:9], blocks


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (row_lost, [("h2o", 2), ("h2o", 3)]),
        (end_lost, [("h2o", 2), ("h2o", 3)]),
        (rows_cut, ORDER[8:]),
    ],
)
def test_what_is_not_whole_is_asked_again(toy, asked, tmp_path, change, missing):
    config = toy(out=tmp_path)
    whole = evaluate(config)
    write(tmp_path, *change(*(read_lines(tmp_path / name) for name in FILES)))
    asked.clear()
    again = evaluate(config)
    assert asked == missing
    assert timeless(again.rows) == timeless(whole.rows)
    assert untimed(again) == untimed(whole)


FILES = ("rows.jsonl", "blocks.jsonl")


def write(folder, rows, blocks):
    for name, lines in zip(FILES, (rows, blocks)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_damaged_rows_are_refused_and_left_as_they_are(toy, tmp_path):
    config = toy(out=tmp_path)
    evaluate(config)
    for name in FILES:
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text("{" + before)
        with pytest.raises(UserError, match=rf"{name} is damaged; remove it or choose another"):
            evaluate(config)
        assert (tmp_path / name).read_text() == "{" + before
        (tmp_path / name).write_text(before)


def test_blocks_in_which_an_item_failed_are_run_again(toy, asked, tmp_path):
    config = toy(out=tmp_path)
    asked.stop(MemoryError(), ("recency", 1))
    first = evaluate(config)
    assert list(failures_of(first)) == [1]
    asked.clear()
    second = evaluate(config)
    assert asked == [("recency", 0), ("recency", 1)]
    assert failures_of(second) == {} and not second.interrupted
    assert untimed(second) == untimed(evaluate(toy()))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"documents": 6}, "documents 5, not 6"),
        ({"budget": (9,)}, r"budget \[8\], not \[9\]"),
        ({"policy": ("h2o",)}, r"policy \['h2o', 'recency'\], not \['h2o'\]"),
        ({"threads": 2}, "threads 1, not 2"),
        ({"update_interval": 16}, "update_interval 32, not 16"),
    ],
)
def test_a_run_with_other_settings_is_neither_mixed_in_nor_replaced(
    toy, tmp_path, change, sentence
):
    evaluate(toy(out=tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"holds a run with {sentence}; repeat its settings to"):
        evaluate(toy(out=tmp_path, **change))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_changes_no_result_may_change(toy, asked, tmp_path):
    whole = evaluate(toy(out=tmp_path, threads=torch.get_num_threads()))
    asked.clear()
    assert evaluate(toy(out=tmp_path, threads=None, json=True, workers=7)).rows == whole.rows
    assert asked == []


def test_a_wrong_setting_leaves_an_earlier_run_alone(toy, tmp_path):
    evaluate(toy(out=tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="unknown policy"):
        evaluate(toy(policy=("h3o",), out=tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_threads_are_given_back(toy, asked, monkeypatch):
    before, during = torch.get_num_threads(), []
    monkeypatch.setattr(Toy, "prepares", lambda block: during.append(torch.get_num_threads()))
    evaluate(toy(threads=before + 1))
    assert during == [before + 1] * 3
    assert torch.get_num_threads() == before


def test_the_progress_bar_moves_with_every_row_and_begins_where_the_run_does(
    toy, asked, monkeypatch, tmp_path
):
    class Bar:
        def __init__(self, *columns, **settings):
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_task(self, name, total, completed):
            self.total, self.at = total, [completed]

        def update(self, task, advance, description):
            self.at.append(self.at[-1] + advance)

    bars = []
    monkeypatch.setattr(runner, "bars", Bar)
    asked.stop(KeyboardInterrupt(), ORDER[5])
    evaluate(toy(out=tmp_path))
    evaluate(toy(out=tmp_path))
    first, second = bars
    assert (first.at, first.total) == (list(range(6)), 15)
    assert (second.at, second.total) == (list(range(4, 16)), 15)


@pytest.fixture
def importable_by_actors(monkeypatch):
    """The benchmark of these tests; worker processes know it anyhow."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


pools = pytest.mark.parametrize("engine", ["processes", "ray"])


@pools
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_other_processes_give_the_same_rows_and_a_killed_one_is_replaced(
    toy, tmp_path, monkeypatch, importable_by_actors, engine
):
    if engine == "ray":
        pytest.importorskip("ray", reason="needs the extra `distributed`")
    here = evaluate(toy())
    monkeypatch.setenv(DYING, str(tmp_path))
    config = toy(engine=engine, workers=2, out=tmp_path / "out")
    there = evaluate(config)
    assert (tmp_path / "died").exists()
    assert timeless(there.rows) == timeless(here.rows)
    assert untimed(there) == untimed(here)
    assert len(read_lines(tmp_path / "out/rows.jsonl")) == len(ORDER)
    # The first process alone ends a run.
    assert Toy.calls[-2:] == ["finish with full h2o recency", "close"]
    # Here nothing is left to be done.
    monkeypatch.delenv(DYING)
    assert evaluate(changed(config, engine="in-process")).rows == there.rows


def test_few_blocks_are_shared_out_by_contenders(toy, monkeypatch):
    given = []

    class Engine:
        def __init__(self, name, make, workers, threads, device):
            self.worker = make(device)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def imap(self, task, jobs):
            given.extend(jobs)
            # As they end, which is not how they began.
            for number in reversed(range(len(jobs))):
                yield number, getattr(self.worker, task)(jobs[number])

    monkeypatch.setattr(runner, "make_engine", Engine)
    here = evaluate(toy())
    for workers, jobs in ((3, 3), (4, 9)):
        given.clear()
        there = evaluate(toy(engine="processes", workers=workers))
        assert len(given) == jobs
        assert timeless(there.rows) == timeless(here.rows)
        assert untimed(there) == untimed(here)


def test_options_of_a_run_are_checked():
    assert ContenderOptions().policy == ("all",)
    with pytest.raises(UserError, match="workers is 0; use 1 or more"):
        runner.RunOptions(workers=0)
    with pytest.raises(UserError, match="threads is 0; use 1 or more"):
        runner.RunOptions(threads=0)


def test_a_run_with_one_token_is_not_resumed_with_all_of_them(toy, tmp_path):
    evaluate(toy(out=tmp_path, budget=(1,)))
    with pytest.raises(UserError, match=r"holds a run with budget \[1\], not \[1\.0\]"):
        evaluate(toy(out=tmp_path, budget=(1.0,)))


def test_a_class_that_was_edited_ends_the_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rule = (Path(toy_benchmark.__file__)).read_text().replace("class Toy", "class Edited")
    (tmp_path / "edited_benchmark.py").write_text(rule)
    config = LanguageEval(
        model="dice",
        task=("edited_benchmark:Edited",),
        contenders=ContenderOptions(policy=("h2o",)),
        run=RunOptions(out=tmp_path / "out", threads=1),
    )
    rows = evaluate(config).rows
    assert evaluate(config).rows == rows
    with (tmp_path / "edited_benchmark.py").open("a") as file:
        file.write("# another rule")
    with pytest.raises(UserError, match="holds a run with sources"):
        evaluate(config)


@pytest.mark.parametrize(
    ("line", "where"),
    [("[1]", "rows.jsonl"), ('{"block": "a", "policy": ["h2o"], "budget": 1}', "blocks.jsonl")],
)
def test_lines_that_are_json_but_no_rows_are_refused(toy, tmp_path, line, where):
    evaluate(toy(out=tmp_path))
    with (tmp_path / where).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=rf"line \d+ of .*{where} is damaged"):
        evaluate(toy(out=tmp_path))


def test_an_item_without_a_row_has_failed(toy, monkeypatch):
    def silent(self, ready, contender):
        yield from list(answers(self, ready, contender))[:-1]

    answers = toy_benchmark.Toy.rows
    monkeypatch.setattr(toy_benchmark.Toy, "rows", silent)
    results = evaluate(toy())
    lost = [row for row in results.rows if row["failure"] is not None]
    assert len(lost) == len({(row["block"], row["policy"], row["budget"]) for row in results.rows})
    assert {row["failure"] for row in lost} == {"Toy gave it no row"}


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [
        ("metrics", (), "Toy has no metrics; set it"),
        ("blocks", lambda self: [], "Toy has no blocks; there is nothing to run"),
        ("contenders", lambda self: [], "Toy has no contenders; there is nothing to run"),
    ],
)
def test_what_a_benchmark_left_out_is_said_before_the_first_item(
    toy, monkeypatch, attribute, value, sentence
):
    monkeypatch.setattr(toy_benchmark.Toy, attribute, value)
    with pytest.raises(UserError, match=sentence):
        evaluate(toy())
