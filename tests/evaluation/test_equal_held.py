"""Three kinds of budget give three rankings; what is held equally can be compared."""

import json
from dataclasses import replace

import pytest
from evaluated import changed, printed

from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation.better import better_shared
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import ContenderOptions, MeasuredOptions
from transfer.evaluation.reference import measured
from transfer.evaluation.runner import evaluate
from transfer.evaluation.store import SUMMARY_FIELDS, Results, read_results

NAMED = {"policy": ("namm", "h2o"), "update_interval": 32}


def config(**options):
    whole = LanguageEval(model="llama-recall", documents=4, contenders=ContenderOptions(**NAMED))
    return changed(whole, threads=1, **options)


def entries(results):
    found = [entry for entry in results.summary if entry["metric"] == "correct"]
    return {(entry["policy"], entry["nominal"]): entry for entry in found}


@pytest.fixture(scope="module")
def both_kinds():
    """A quarter as a fraction, and as many tokens as that is at the end."""
    return evaluate(config(budget=(0.25, 64)))


def test_a_fraction_and_a_size_of_one_end_rank_differently_and_hold_another_average(both_kinds):
    found = entries(both_kinds)
    assert found["namm", 0.25]["mean"] < found["h2o", 0.25]["mean"]
    assert found["namm", 64]["mean"] > found["h2o", 64]["mean"]
    ends = {entry["held_end"] for (policy, _), entry in found.items() if policy != "full"}
    assert ends == {64}
    # 16.5 before the first update, and 8, 16 ... or 64 tokens and 16.5 from there on.
    assert found["namm", 0.25]["held_mean"] == 44.5 == 16.5 + 8 * 28 / 8
    assert found["namm", 64]["held_mean"] == 68.5
    assert found["h2o", 64]["held_mean_share"] == pytest.approx(68.5 / 128.5)
    full = found["full", None]
    assert (full["held_mean"], full["held_mean_share"]) == (128.5, 1.0)
    assert (full["held_peak"], full["held_peak_share"], full["kept"]) == (256, 1.0, 1.0)


@pytest.mark.parametrize(("equal", "field"), [("held", "held_mean"), ("peak", "held_peak")])
def test_what_is_equal_is_equal_within_a_token_under_either_kind(equal, field):
    policies = ("namm", "h2o", "h2o:budget=size", "namm:budget=size")
    results = evaluate(config(policy=policies, budget=(0.25,), equal=equal))
    found = entries(results)
    namm = found["namm", 0.25]
    for policy in policies:
        assert found[policy, 0.25][field] == pytest.approx(namm[field], abs=1)
    assert found["h2o", 0.25]["budget"] == 0.25
    size = found["h2o:budget=size", 0.25]["budget"]
    assert isinstance(size, int) and size < 64
    assert found["namm:budget=size", 0.25]["budget"] == size


def test_of_two_budgets_that_come_to_the_same_it_is_said_whose_row_it_is():
    # Both are rounded up to the same tokens at every update.
    rule = "h2o:budget=size"
    results = evaluate(config(policy=("namm", rule), budget=(0.26, 0.2601), equal="peak"))
    found = entries(results)
    assert set(found) == {("full", None), ("namm", 0.26), ("namm", 0.2601), (rule, 0.26)}
    said = (
        f"{rule} at 0.2601 would be pruned as {rule} at 0.26 is, with budget "
        f"{found[rule, 0.26]['budget']}: one row stands for all"
    )
    assert results.notes == [said] and said in " ".join(printed(results).split())
    assert evaluate(config(policy=("namm", "fifo", "recency:sinks=0"), documents=1)).notes == []


def test_a_namm_without_a_budget_is_measured_first(tmp_path, capsys):
    asked = config(policy=("namm", "h2o", "h2o:budget=fraction"), budget=(None,), equal="held")
    results = evaluate(changed(asked, out=tmp_path))
    assert "first, what namm holds without a budget" in capsys.readouterr().err
    found = entries(results)
    assert isinstance(found["h2o", None]["budget"], int)
    assert 0 < found["h2o:budget=fraction", None]["budget"] < 1
    for policy in ("h2o", "h2o:budget=fraction"):
        assert found[policy, None]["held_mean"] == pytest.approx(
            found["namm", None]["held_mean"], abs=1
        )
    # A run that is there already goes on to the same.
    assert evaluate(changed(asked, out=tmp_path)).as_json() == results.as_json()


def test_what_a_budget_says_is_not_measured():
    for asked in (config(equal="held", budget=(8,)), config(budget=(None,)), config()):
        assert measured(asked) is asked
    options = measured(config(policy=("all",), budget=(None,), equal="peak")).contenders
    assert isinstance(options, MeasuredOptions)
    assert options.lengths == (256,) * 4 and 100 < options.goal <= 256


def test_each_kind_of_budget_has_a_table_of_its_own(both_kinds):
    text = printed(both_kinds)
    fractions, sizes = text.split("Budgets that are a number of tokens")
    assert "Budgets that are a fraction of the tokens seen" in fractions
    for part, budget, mean in ((fractions, "25%", "44.5  35%"), (sizes, "64", "68.5  53%")):
        [line] = [each for each in part.splitlines() if each.startswith(f" h2o{budget:>12}")]
        assert mean in line
        assert " full " in part
    assert max(map(len, text.splitlines())) <= 100


def test_rows_say_what_was_held(tmp_path):
    evaluate(config(policy=("recency",), documents=2, budget=(8,), out=tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["held_end"] == row["kept_tokens"] <= row["held_peak"]
        assert row["held_mean"] <= row["held_peak"]
        assert 0 < row["bytes_mean"] <= row["peak_bytes"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"equal": "held", "equal_bytes": True}, "--equal held and --equal-bytes are two things"),
        ({"policy": ("h2o",), "equal": "held"}, "equal average tokens are those of the policy na"),
        ({"policy": ("h2o", "namm:budget=size"), "equal": "peak"}, "equal peak tokens are those"),
        ({"policy": ("h2o:budget=size",)}, "policy 'h2o:budget=size' leaves the number of its "),
        ({"equal": "bytes", "budget": (None,)}, "equal bytes need a budget of the NAMM; give --b"),
        (
            {"equal": "held", "task": ("toy_benchmark:Toy",)},
            "equal average tokens: this benchmark does not say how long its sequences are",
        ),
    ],
)
def test_what_cannot_be_equal_is_one_sentence(options, sentence):
    with pytest.raises(UserError, match=f"^{sentence}") as caught:
        evaluate(config(**options))
    assert "\n" not in str(caught.value)


def test_under_both_shares_the_better_is_shown_and_both_are_kept(tmp_path):
    asked = config(policy=("namm", "h2o", "recency:share=head"), budget=(8, 16), share="both")
    results = evaluate(changed(asked, out=tmp_path))
    found = entries(results)
    for policy in ("namm", "h2o"):
        for budget in (8, 16):
            head, layer = found[policy, budget], found[f"{policy}:share=layer", budget]
            assert head["pair"] == layer["pair"] == policy
            assert (head["share"], layer["share"]) == ("head", "layer")
            # The heads of a layer hold together what they would hold each.
            assert head["held_mean"] == pytest.approx(layer["held_mean"])
    text = printed(results)
    for budget, tokens in ((8, " 8.0"), (16, "16.0")):
        better = max(
            (found["h2o", budget], found["h2o:share=layer", budget]), key=lambda one: one["mean"]
        )
        [line] = [each for each in text.splitlines() if each.startswith(" h2o") and "[" in each
                  and tokens in each]  # fmt: skip
        assert line.startswith(f" h2o ({better['share']})")
        assert f"{100 * better['mean']:.1f}" in line
    # Who says its share has one.
    assert " recency:share=head " in text and "recency:share=head:share" not in text
    assert "the better by correct is shown of each policy" in " ".join(text.split())
    assert len(read_results(tmp_path).summary) == len(results.summary) == 3 * (1 + 5 * 2)


def test_the_better_one_is_that_of_each_task():
    def entry(task, policy, mean, group_by="all", **more):
        about = {"task": task, "policy": policy, "budget": 8, "nominal": 8, "mean": mean}
        pair = None if policy == "full" else "h2o"
        share = "layer" if "layer" in policy else "head"
        kind = {"metric": "points", "group_by": group_by, "pair": pair, "share": share}
        return dict.fromkeys(SUMMARY_FIELDS) | about | kind | more

    summary = [
        entry("a", "full", 1.0),
        entry("a", "h2o", 0.4), entry("a", "h2o:share=layer", 0.5),
        entry("a", "h2o", 0.9, "depth"), entry("a", "h2o:share=layer", 0.1, "depth"),
        entry("b", "h2o", 0.4), entry("b", "h2o:share=layer", None),
        # A budget of another kind is another pair.
        entry("b", "h2o", 0.1, budget=0.25, nominal=0.25),
        entry("b", "h2o:share=layer", 0.2, budget=0.25, nominal=0.25),
    ]  # fmt: skip
    results = Results(
        kind="toy", command="", versions={}, rows=[], metrics=["points"], keys=[], summary=summary
    )
    shown = [(e["task"], e["policy"], e["mean"]) for e in better_shared(results).summary]
    assert shown == [
        ("a", "full", 1.0), ("a", "h2o (layer)", 0.5), ("a", "h2o (layer)", 0.1),
        ("b", "h2o (head)", 0.4), ("b", "h2o (layer)", 0.2),
    ]  # fmt: skip
    without = replace(results, summary=summary[:1])
    assert better_shared(without) is without


def test_rules_are_equal_to_a_namm_under_a_threshold_of_a_file(tmp_path):
    file = tmp_path / "threshold.json"
    words = ["calibrate", "--model", "llama-recall", "--kept", "0.25", "--out", str(file)]
    words += ["--task", "recall", "--length", "256", "--documents", "1", "--threads", "1"]
    assert main([*words, "--update-interval", "32"]) == 0
    asked = config(threshold=(file,), budget=(0.5,), equal="held", documents=2)
    found = entries(evaluate(asked))
    namm, h2o = found["namm", None], found["h2o", None]
    assert isinstance(h2o["budget"], int) and namm["budget"] is None
    assert h2o["held_mean"] == pytest.approx(namm["held_mean"], abs=1)
