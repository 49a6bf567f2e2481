"""The suite: which sections, how their rows become one table, and that it can be stopped."""

import json

import pytest

from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation.results import Results
from transfer.evaluation.statistics import Change
from transfer.evaluation.suite import SuiteEval, evaluate_suite
from transfer.evaluation.suite_summary import Task, summarise, tasks_of
from transfer.evaluation.suite_table import markdown


def control_task(name, **scores):
    task = Task(name, "control")
    for policy, values in scores.items():
        task.seconds[policy] = 1.0
        for seed, score in enumerate(values):
            bytes_held = None if policy == "window" else 1000
            task.add(
                {
                    "model": "dt", "protocol": policy, "seed": seed, "score": score,
                    "budget": None, "kept_tokens": None, "cache_bytes": bytes_held,
                    "full_bytes": bytes_held,
                }
            )  # fmt: skip
    return task


def test_sections_are_two_language_models_video_and_nine_control_tasks():
    names = [section.name for section in SuiteEval("zero-shot").sections()]
    assert len(names) == len(set(names)) == 12
    assert sum(name.startswith("control/") for name in names) == 9
    assert names[:3] == [
        "language/llama-recall-wide", "language/gpt2-recall", "video/llava-next-video",
    ]  # fmt: skip


def test_sections_by_the_beginning_of_their_names():
    config = SuiteEval("zero-shot", section=("control/hopper", "video"))
    assert [section.modality for section in config.sections()] == ["video"] + ["control"] * 3
    with pytest.raises(UserError, match=r"'contrl/hopper-expert'; did you mean control/"):
        SuiteEval("zero-shot", section=("contrl/hopper-expert",)).sections()


def test_every_section_gets_the_same_namms_and_its_own_folder(tmp_path):
    for section in SuiteEval("zero-shot", namm=("recall", "random"), out=tmp_path).sections():
        assert section.config.namm == ("recall", "random")
        assert section.config.equal_bytes
        assert section.config.out == tmp_path / section.name


def test_changes_are_paired_and_averaged_over_tasks():
    tasks = [
        control_task("control/a", window=[50.0, 100.0], namm=[60.0, 120.0]),
        control_task("control/b", window=[10.0, 10.0], namm=[9.0, 9.0]),
    ]
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
    tasks = [control_task("control/a", window=[-1.0, 0.5], namm=[3.0, 4.0])]
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


def test_failed_episodes_are_in_no_mean():
    rows = [
        {"protocol": "window", "seed": 0, "score": 1.0, "failure": None},
        {"protocol": "window", "seed": 1, "score": 9.0, "failure": "the simulator failed"},
    ]
    [task] = tasks_of("control", "control/a", Results("", {}, [], [], rows))
    assert list(task.rows["window"]) == [0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("suite")
    config = SuiteEval(
        "zero-shot", section=("language/gpt2",), namm=("recall", "random"), quick=True, out=out
    )
    return out, config, evaluate_suite(config)


def test_a_section_keeps_its_own_results(finished):
    out, _, results = finished
    section = json.loads((out / "language/gpt2-recall/results.json").read_text())
    right = {e["policy"]: e["mean"] for e in section["summary"] if e["metric"] == "correct"}
    suite = {e["policy"]: e["mean"] for e in results.summary if e["task"].endswith("/recall")}
    assert set(right) == set(suite) >= {"full", "namm recall", "namm random", "h2o"}
    for policy, mean in right.items():
        assert suite[policy] == pytest.approx(100 * mean)


def test_the_markdown_has_a_row_for_every_policy_and_says_the_command(finished):
    out, _, results = finished
    text = (out / "table.md").read_text()
    assert text == markdown(results)
    assert text.startswith("`transfer eval --suite zero-shot")
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
