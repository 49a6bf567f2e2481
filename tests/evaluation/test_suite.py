"""The suite: which sections, how their rows become one table, and that it can be stopped."""

import json
from dataclasses import replace

import pytest
from evaluated import printed

from transfer.adapters.kinds import shipped_models
from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation import language_benchmark, suite, suite_run, suite_table
from transfer.evaluation.options import RunOptions
from transfer.evaluation.statistics import Change
from transfer.evaluation.store import SUMMARY_FIELDS, Results, read_results
from transfer.evaluation.suite import SuiteEval
from transfer.evaluation.suite_run import evaluate_suite
from transfer.evaluation.suite_summary import summarise, tasks_of
from transfer.evaluation.suite_table import markdown


def control_results(failed=(), **scores) -> Results:
    """A section of control, whose summary says means alone."""
    rows = [
        {
            "task": "Hopper-v4", "policy": policy, "item": seed, "cluster": seed,
            "d4rl_score": None if (policy, seed) in failed else score,
            "failure": "the simulator failed" if (policy, seed) in failed else None,
        }
        for policy, own in scores.items()
        for seed, score in enumerate(own)
    ]  # fmt: skip
    summary = [_entry(policy, own, scores) for policy, own in scores.items()]
    return Results("control", "", {}, ("d4rl_score",), ("target_return",), summary, rows)


def _entry(policy, own, scores):
    mean = sum(own) / len(own)
    base = sum(scores["window"]) / len(scores["window"])
    bounds = dict.fromkeys(("delta_window_low", "delta_window_high"))
    return {
        **dict.fromkeys(SUMMARY_FIELDS), "task": "Hopper-v4", "policy": policy, "seconds": 1.0,
        "metric": "d4rl_score", "group_by": "all", "n": len(own), "mean": mean,
        "delta_vs_window": mean - base, **bounds,
    }  # fmt: skip


def control_tasks(**tasks):
    return [
        task
        for name, own in tasks.items()
        for task in tasks_of(f"control/{name}", control_results(**own))
    ]


@pytest.fixture(autouse=True)
def fetched(monkeypatch):
    """A machine that has no pretrained model, whatever the machine of the test has."""
    models = []
    monkeypatch.setattr(suite, "is_fetched", models.__contains__)
    return models


def test_a_pretrained_model_has_a_section_where_it_is_there(fetched, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match="smollm2-135m is not on this machine yet; run `transfer "):
        SuiteEval(section=("real",)).sections()
    fetched.append("smollm2-135m")
    [(name, config)] = SuiteEval(section=("real",), documents=50).sections().items()
    assert name == "real-language/smollm2-135m"
    assert (config.documents, config.contenders.budget) == (5, (0.25,))
    assert list(SuiteEval().sections())[2] == name


def test_sections_are_two_language_models_video_and_nine_control_tasks_and_eight_of_memory():
    names = list(SuiteEval().sections())
    assert len(names) == 20
    assert sum(name.startswith("control/") for name in names) == 9
    of_memory = [name.removeprefix("memory/") for name in names if name.startswith("memory/")]
    assert [f"decision-transformer-{name}" in shipped_models("control") for name in of_memory] == (
        [True] * 8
    )
    assert names[:3] == [
        "language/llama-recall-wide", "language/gpt2-recall", "video/llava-next-video",
    ]  # fmt: skip


def test_sections_by_the_beginning_of_their_names():
    sections = SuiteEval(section=("control/hopper", "video")).sections()
    assert [section.kind for section in sections.values()] == ["video"] + ["control"] * 3
    with pytest.raises(UserError, match=r"'contrl/hopper-expert'; did you mean control/"):
        SuiteEval(section=("contrl/hopper-expert",)).sections()


def test_sections_that_are_not_named_are_not_all_of_them():
    with pytest.raises(UserError, match="no section was named; name at least one"):
        SuiteEval(section=())
    with pytest.raises(UserError, match="unknown section ''"):
        SuiteEval(section=("",)).sections()


def test_every_section_gets_the_same_namms_and_threads_and_its_own_folder(tmp_path):
    run = RunOptions(out=tmp_path, threads=3)
    for name, section in SuiteEval(namm=("recall", "random"), run=run).sections().items():
        assert section.contenders.namm == ("recall", "random")
        assert section.contenders.equal_in == "bytes"
        assert section.run == RunOptions(out=tmp_path / name, threads=3)


def test_every_section_compares_who_is_asked_for():
    policy = ("namm:state=byte", "h2o")
    for config in SuiteEval(policy=policy).sections().values():
        assert config.contenders.policy == policy


def test_changes_are_paired_and_averaged_over_tasks():
    tasks = control_tasks(
        a={"window": [50.0, 100.0], "namm": [60.0, 120.0]},
        b={"window": [10.0, 10.0], "namm": [9.0, 9.0]},
    )
    entries = {(e["task"], e["policy"]): e for e in summarise(tasks)}
    assert entries["control/a", "namm"]["change"] == pytest.approx(0.2)
    # Every pair changed by a fifth, so whichever are drawn, the change is a fifth.
    assert entries["control/a", "namm"]["change_low"] == pytest.approx(0.2)
    assert entries["control/a", "namm"]["delta_vs_base"] == pytest.approx(15.0)
    assert entries["control/b", "namm"]["change"] == pytest.approx(-0.1)
    average = entries["average control", "namm"]
    assert (average["mean"], average["n"]) == (pytest.approx(0.05), 2)
    assert entries["average control", "window"]["mean"] == 0.0
    assert ("average all", "namm") not in entries


def test_a_base_that_scores_nothing_has_no_change():
    tasks = control_tasks(a={"window": [-1.0, 0.5], "namm": [3.0, 4.0]})
    found = [e for e in summarise(tasks) if e["policy"] == "namm"]
    assert [e["task"] for e in found] == ["control/a"]
    assert found[0]["change"] is None
    with pytest.raises(ValueError, match="says nothing"):
        Change.of([3.0, 4.0], [-1.0, 0.5])


def test_an_average_is_as_sure_as_its_tasks():
    sure = Change.of([2.0] * 50, [1.0] * 50)
    unsure = Change.of([1.0, 3.0] * 25, [1.0] * 50)
    assert sure.interval.low == sure.interval.high == pytest.approx(1.0)
    average = Change.average([sure, unsure])
    assert average.mean == pytest.approx(1.0)
    width = unsure.interval.high - unsure.interval.low
    assert average.interval.high - average.interval.low == pytest.approx(width / 2)


def test_failed_episodes_are_in_no_pair_and_pairs_are_of_items():
    scores = {"window": [1.0, 9.0, 2.0], "namm": [5.0, 18.0, 3.0]}
    results = control_results(failed=[("window", 0)], **scores)
    [task] = tasks_of("control/a", results)
    assert list(task.rows["window"]) == [1, 2]
    assert task.change("namm").mean == pytest.approx((18 + 3) / (9 + 2) - 1)
    shuffled = replace(results, rows=results.rows[::-1])
    [again] = tasks_of("control/a", shuffled)
    assert again.change("namm").mean == pytest.approx(task.change("namm").mean)


def test_each_task_of_a_language_section_is_a_task():
    results = control_results(window=[1.0], full=[2.0])
    rows = [{**row, "task": name} for name in ("recall", "decoys") for row in results.rows]
    summary = [{**e, "task": name} for name in ("recall", "decoys") for e in results.summary]
    both = replace(results, kind="language", rows=rows, summary=summary)
    tasks = tasks_of("language/gpt2", both)
    assert [task.name for task in tasks] == ["language/gpt2/recall", "language/gpt2/decoys"]
    assert [len(task.entries) for task in tasks] == [2, 2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("suite")
    config = SuiteEval(
        section=("language/gpt2",),
        namm=("recall", "random"),
        quick=True,
        run=RunOptions(out=out, threads=1),
    )
    return out, config, evaluate_suite(config)


@pytest.mark.parametrize(("equal", "field"), [("held", "held_mean"), ("peak", "held_peak")])
def test_rules_may_be_equal_in_tokens(equal, field, tmp_path, capsys):
    words = ["--section", "language/gpt2", "--quick", "--equal", equal, "--out", str(tmp_path)]
    words += ["--policy", "namm", "h2o", "pyramidkv"]
    assert main(["eval", "--suite", "zero-shot", *words]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert suite_table.EQUALS[equal] in printed and suite_table.EQUALS["bytes"] not in printed
    assert suite_table.EQUALS[equal] in (tmp_path / "table.md").read_text()
    found = {
        e["policy"]: e[field] for e in read_results(tmp_path).summary if e["metric"] == "score"
    }
    assert found["full"] > found["namm"] + 10
    for rule in ("h2o", "pyramidkv"):
        assert found[rule] == pytest.approx(found["namm"], abs=1)


def test_a_section_keeps_its_own_results(finished):
    out, _, results = finished
    section = json.loads((out / "language/gpt2-recall/results.json").read_text())
    right = {e["policy"]: e["mean"] for e in section["summary"] if e["metric"] == "correct"}
    suite = {e["policy"]: e["mean"] for e in results.summary if e["task"].endswith("/recall")}
    assert set(right) == set(suite) >= {"full", "namm:recall", "namm:random", "h2o"}
    for policy, mean in right.items():
        assert suite[policy] == pytest.approx(100 * mean)


def test_the_markdown_has_a_row_for_every_policy_and_says_the_command(finished):
    out, _, results = finished
    text = (out / "table.md").read_text()
    assert text == markdown(results)
    assert text.startswith("`transfer eval suite --namm recall random")
    for entry in results.summary:
        assert f"| {entry['policy']} |" in text


def test_report_prints_the_tables_again(finished, capsys):
    out, _, _ = finished
    assert main(["report", str(out)]) == 0
    assert "Average change against the base" in capsys.readouterr().out


def test_bad_settings_are_one_sentence(capsys):
    assert main(["eval", "--suite", "zero-shot", "--section", "vidio"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown section 'vidio'; known: control/")
    assert main(["eval", "--suite", "zero-shot", "--episodes", "0"]) == 2
    assert "episodes is 0; use 1 or more" in capsys.readouterr().err


def test_a_finished_suite_asks_nothing_again(finished, monkeypatch):
    _, config, results = finished
    monkeypatch.setattr(language_benchmark, "score_batch", lambda *args: pytest.fail("asked"))
    assert evaluate_suite(config).as_json() == results.as_json()


def test_ctrl_c_ends_the_suite_and_what_had_ended_is_summarised(monkeypatch, tmp_path, capsys):
    ran = []

    def evaluate(section):
        ran.append(section.kind)
        whole = control_results(window=[50.0, 100.0], namm=[60.0, 120.0])
        return replace(whole, interrupted=len(ran) == 2)

    monkeypatch.setattr(suite_run, "evaluate", evaluate)
    words = ["eval", "suite", "--section", "control/hopper", "--out", str(tmp_path)]
    assert main(words) == 130
    assert ran == ["control", "control"]
    said = capsys.readouterr()
    assert f"interrupted: what was done is kept in {tmp_path}; the same command" in said.err
    found = read_results(tmp_path)
    assert found.interrupted
    tasks = dict.fromkeys(entry["task"] for entry in found.summary)
    assert list(tasks) == [
        "control/hopper-medium", "control/hopper-medium-replay", "average control",
    ]  # fmt: skip


def test_what_failed_everywhere_has_no_cell():
    results = control_results(window=[50.0], namm=[60.0], h2o=[40.0])
    for lost in ("window", "namm", "h2o"):
        left = replace(results, summary=[e for e in results.summary if e["policy"] != lost])
        tasks = [*tasks_of("control/hopper-medium", left), *tasks_of("control/b", results)]
        whole = replace(results, kind="suite", summary=summarise(tasks))
        assert lost in printed(whole) and lost in markdown(whole)


def test_what_failed_in_a_section_is_told_and_the_folder_of_another_run_refused(
    tmp_path, monkeypatch, capsys
):
    score_batch = language_benchmark.score_batch

    def broken(model, batch, cache):
        if "H2O" in repr(cache.pruned[0].pruning.policy):
            raise MemoryError("no room")
        return score_batch(model, batch, cache)

    monkeypatch.setattr(language_benchmark, "score_batch", broken)
    config = SuiteEval(section=("language/gpt2",), quick=True, run=RunOptions(threads=1))
    results = evaluate_suite(config)
    assert results.lost == ["h2o in language/gpt2-recall", "h2o_age in language/gpt2-recall"]
    assert "Failed, and in no mean: 40 of 220 rows" in printed(results)
    out = tmp_path / "section"
    words = ["eval", "language", "--model", "llama-recall", "--documents", "1", "--policy", "h2o"]
    monkeypatch.undo()
    assert main([*words, "--threads", "1", "--out", str(out)]) == 0
    before = (out / "results.json").read_text()
    with pytest.raises(UserError, match="holds a run of another kind"):
        evaluate_suite(replace(config, run=RunOptions(threads=1, out=out)))
    assert (out / "results.json").read_text() == before


@pytest.mark.parametrize("name", ["documents", "questions", "episodes"])
def test_a_quick_suite_says_itself_how_many(name):
    with pytest.raises(UserError, match=f"--quick says itself how many {name} there are"):
        SuiteEval(quick=True, **{name: 7})
