import json

import gymnasium
import numpy as np
import pytest
import torch
from evaluated import changed, failures_of, printed, timeless
from evaluated import rows_of as rows_of_all

from transfer.adapters.decision_transformer import WindowController
from transfer.cli import main
from transfer.envs.environment import make_envs
from transfer.envs.rollout import stream
from transfer.errors import UserError
from transfer.evaluation import control_benchmark
from transfer.evaluation.control import ControlEval
from transfer.evaluation.control_benchmark import ControlBenchmark
from transfer.evaluation.measure import KINDS
from transfer.evaluation.runner import evaluate
from transfer.evaluation.statistics import bootstrap, interquartile_mean, paired_difference
from transfer.evaluation.store import SUMMARY_FIELDS, read_results
from transfer.files import write_sealed

POLICIES = ("namm", "h2o")
#: Bytes of keys and values of one token in both layers of the tiny model, float32.
TOKEN_BYTES = 2 * 2 * 16 * 4


def small(tiny, **settings) -> ControlEval:
    given = {"episodes": 2, "max_steps": 30, "budget": (8,), "update_interval": 16}
    return changed(ControlEval(model=str(tiny)), **(given | settings))


@pytest.fixture
def config(tiny):
    return lambda **settings: small(tiny, **settings)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """One run of the default protocols for two targets, with its folder."""
    out = tmp_path_factory.mktemp("run")
    config = small(tiny, episodes=3, target_return=(3000.0, 500.0), out=out, num_envs=2)
    return config, evaluate(config), out


def rows_of(results, policy, target=3000.0):
    return rows_of_all(results, policy, target_return=target)


def test_every_protocol_plays_the_same_seeds(finished):
    _, results, _ = finished
    for target in (3000.0, 500.0):
        for protocol in ("window", "cache", "full", *POLICIES, "fifo"):
            seeds = [row["item"] for row in rows_of(results, protocol, target)]
            assert sorted(seeds) == [0, 1, 2]
    assert len(results.rows) == 6 * 2 * 3
    for row in results.rows:
        assert row["returns_every"] == 2 and row["returns"][0] == 0.0
        assert row["returns"][-1] == pytest.approx(row["return"], rel=1e-5)
        assert len(row["returns"]) == 1 + -(-row["length"] // 2)
    # Batch by batch, so that a run that is interrupted is paired.
    blocks = list(dict.fromkeys(row["block"] for row in results.rows))
    assert blocks == ["3000/0-1", "3000/2-2", "500/0-1", "500/2-2"]


def test_summary_is_computed_from_the_rows(finished):
    _, results, _ = finished
    assert (results.kind, results.metrics) == ("control", ("d4rl_score", "return"))
    assert len(results.summary) == 12 * 2
    for entry in results.summary[::2]:
        rows = rows_of(results, entry["policy"], entry["target_return"])
        returns = [row["return"] for row in rows]
        scores = [100 * (value + 20.272305) / (3234.3 + 20.272305) for value in returns]
        assert set(SUMMARY_FIELDS) <= set(entry)
        assert (entry["task"], entry["metric"], entry["n"]) == ("Hopper-v4", "d4rl_score", 3)
        assert [row["d4rl_score"] for row in rows] == pytest.approx(scores)
        assert entry["iqm"] == pytest.approx(interquartile_mean(scores))
        interval = bootstrap(scores)
        assert entry["mean"] == pytest.approx(interval.mean)
        assert (entry["low"], entry["high"]) == pytest.approx((interval.low, interval.high))
        assert entry["length"] == pytest.approx(np.mean([row["length"] for row in rows]))
    for entry in results.summary[1::2]:
        returns = [
            row["return"] for row in rows_of(results, entry["policy"], entry["target_return"])
        ]
        assert entry["metric"] == "return"
        assert entry["mean"] == pytest.approx(np.mean(returns))
        assert entry["std"] == pytest.approx(np.std(returns))


def test_differences_are_paired_by_seed(finished):
    _, results, _ = finished
    for entry in results.summary:
        for base, keys in (
            ("window", ("delta_vs_window", "delta_window_low", "delta_window_high")),
            ("full", ("delta_vs_full", "delta_low", "delta_high")),
        ):
            scores = [
                [row[entry["metric"]] for row in sorted(rows, key=lambda row: row["item"])]
                for rows in (
                    rows_of(results, name, entry["target_return"])
                    for name in (entry["policy"], base)
                )
            ]
            # Rows come in the order in which episodes end, and so do the pairs.
            expected = paired_difference(*scores)
            found = [entry[key] for key in keys]
            assert found[0] == pytest.approx(expected.mean, abs=1e-9)
            assert found[1] <= found[0] <= found[2]
            if entry["policy"] == base:
                assert found == [0.0, 0.0, 0.0]


def test_memory_is_what_each_protocol_promises(finished):
    _, results, _ = finished
    for row in rows_of(results, "full"):
        assert row["kept_tokens"] == 3 * row["length"] - 1
        assert row["kept"] == pytest.approx(1 - 1 / (3 * row["length"]))
        assert row["full_bytes"] == 3 * row["length"] * TOKEN_BYTES
        assert row["peak_bytes"] >= row["cache_bytes"] >= row["kept_tokens"] * TOKEN_BYTES
    for row in rows_of(results, "cache"):
        assert (row["budget"], row["update_interval"]) == (3 * 3 - 4, 3)
        assert row["kept_tokens"] == 3 * 3 - 4
    for name in (*POLICIES, "fifo"):
        for row in rows_of(results, name):
            since_update = 3 * row["length"] % 16
            assert row["kept_tokens"] == 8 + since_update
            assert row["kept"] == pytest.approx(row["kept_tokens"] / (3 * row["length"]))
            assert row["peak_bytes"] >= row["cache_bytes"] >= row["kept_tokens"] * TOKEN_BYTES
    for row in rows_of(results, "window"):
        held = ("tokens", "kept_tokens", "kept", "cache_bytes", "peak_bytes", "full_bytes")
        assert [row[name] for name in held] == [None] * 6


def test_peak_bytes_include_the_moment_before_eviction(finished):
    _, results, _ = finished
    for row in rows_of(results, "fifo"):
        assert row["peak_bytes"] >= (8 + 16) * TOKEN_BYTES


def test_seconds_are_split_and_add_up(finished):
    _, results, _ = finished
    for entry in results.summary:
        parts = [entry[f"{part}_seconds"] for part in ("simulator", "transformer", "policy")]
        # Of the whole time a little is spent outside the simulator and the model.
        assert 0.5 * entry["seconds"] < sum(parts) <= entry["seconds"]
        assert parts[0] > 0 and parts[1] > 0
        assert (parts[2] > 0) == (entry["policy"] in ("cache", *POLICIES, "fifo"))


def test_protocols_agree_until_the_window_is_full(config):
    results = evaluate(config(max_steps=3, policy=()))
    by_protocol = {name: rows_of(results, name, 3600.0) for name in ("window", "cache", "full")}
    window = [row["return"] for row in by_protocol["window"]]
    assert [row["return"] for row in by_protocol["cache"]] == pytest.approx(window, abs=1e-4)
    assert [row["return"] for row in by_protocol["full"]] == pytest.approx(window, abs=1e-4)


def test_protocols_differ_afterwards(finished):
    _, results, _ = finished
    returns = {
        name: tuple(round(row["return"], 6) for row in rows_of(results, name))
        for name in ("window", "full", "fifo")
    }
    assert len(set(returns.values())) == 3


def test_the_same_run_twice_gives_the_same_digits(config):
    again = config(num_envs=1, memory=("window",), max_steps=20)
    assert timeless(evaluate(again).rows) == timeless(evaluate(again).rows)


def test_the_folder_holds_what_is_returned(finished):
    config, results, out = finished
    assert read_results(out).as_json() == results.as_json()
    lines = (out / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(results.rows)
    assert results.command.startswith(f"transfer eval control --model {config.model} ")
    assert results.versions["env"] == "Hopper-v4"


def test_tables_fit_and_say_what_drifts(finished):
    _, results, _ = finished
    text = printed(results)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert text.count("target return") == 2
    assert "after 3 steps" in text
    for entry in results.summary[::2]:
        assert f"{entry['mean']:.1f}" in text


def test_ctrl_c_keeps_the_episodes_that_ended(config, tmp_path, monkeypatch):
    class Impatient(WindowController):
        def select(self, rows):
            raise KeyboardInterrupt

    monkeypatch.setattr(control_benchmark, "WindowController", Impatient)
    results = evaluate(config(memory=("window", "full"), episodes=4, out=tmp_path))
    assert results.interrupted
    assert 1 <= len(results.rows) < 4
    for entry in results.summary:
        assert (entry["policy"], entry["n"]) == ("window", len(results.rows))
        assert entry["delta_vs_full"] is None
    assert len(results.summary) == 2
    assert read_results(tmp_path).as_json() == results.as_json()


def test_what_is_held_has_an_age_and_kinds(finished):
    _, results, _ = finished
    for row in results.rows:
        if row["policy"] == "window":
            assert row["kept_age"] is None
            continue
        assert sum(row[kind] for kind in KINDS) == pytest.approx(1.0)
        if row["policy"] == "full":
            steps = row["length"]
            # The first step has no action before it.
            ages = [age for age in range(steps) for _ in range(2 if age == steps - 1 else 3)]
            assert row["kept_age"] == pytest.approx(np.mean(ages))
            assert row["kept_states"] == pytest.approx(steps / (3 * steps - 1))
    held = {entry["policy"]: entry["kept_age"] for entry in results.summary}
    assert held["fifo"] < held["namm"] < held["full"]


def test_blocks_of_seeds_never_overlap(config):
    assert config(seeds=(0,), episodes=3).episode_seeds == [0, 1, 2]
    assert config(seeds=(7, 0, 2), episodes=3).episode_seeds == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_fifo_stands_beside_policies_that_have_a_budget(config):
    def names(**settings):
        return [one.name for one in ControlBenchmark(config(**settings)).contenders()]

    assert names() == ["window", "cache", "full", "namm", "h2o", "fifo"]
    assert names(memory=(), policy=("l2_norm", "random")) == ["l2_norm", "random", "fifo"]
    assert names(policy=()) == ["window", "cache", "full"]
    assert names(memory=("full",), policy=("full",)) == ["full"]
    assert names(memory=("window",), policy=("full",)) == ["window", "full"]
    assert names(memory=(), policy=("fastgen",), budget=(None,)) == ["fastgen"]
    assert names(memory=(), policy=("fifo", "h2o")) == ["fifo", "h2o"]
    assert names(memory=(), policy=("h2o", "recency:sinks=0")) == ["h2o", "recency:sinks=0"]


def test_fifo_has_its_budget_where_another_policy_has_a_threshold(config, tmp_path):
    file, interval = tmp_path / "threshold.json", config().contenders.update_interval
    told = {"policy": "random", "threshold": 0.5, "update_interval": interval, "namm": None}
    write_sealed(file, {**told, "model": "llama-recall", "weights": "", "kept": 0.5, "length": 9})
    asked = config(memory=(), policy=("random", "h2o"), threshold=(file,), budget=(12,))
    found = ControlBenchmark(asked).contenders()
    assert [one.key for one in found] == [("random", None), ("h2o", 12), ("fifo", 12)]
    with pytest.raises(UserError, match=r"was found on llama-recall, and .* is another model, of"):
        evaluate(asked)


def test_an_unknown_memory_is_refused(config):
    settings = config()
    # Type checkers refuse it before; callers without one get the sentence.
    object.__setattr__(settings, "memory", ("windw",))
    with pytest.raises(UserError, match="unknown memory 'windw'; did you mean window"):
        evaluate(settings)


def test_same_size_fifo_has_the_policys_interval(config):
    settings = config(budget=(0.5,), update_interval=32, eviction="reference", context=20)
    protocols = ControlBenchmark(settings).contenders()
    for protocol in protocols[-2:]:
        assert protocol.pruning.budget == 0.5
        assert protocol.pruning.update_interval == 32
        assert protocol.pruning.eviction == "reference"
    cache = protocols[1].pruning
    assert (cache.budget, cache.update_interval, cache.policy.sinks) == (56, 3, 0)


def test_a_namm_is_a_policy(config, tmp_path):
    from transfer.namm.network import NAMM, NAMMConfig

    small = NAMMConfig(scorer="mlp", hidden=4)
    NAMM(small, torch.randn(1, small.size)).save_pretrained(tmp_path)
    results = evaluate(config(memory=("full",), policy=("namm",), namm=(str(tmp_path),)))
    assert [entry["policy"] for entry in results.summary[::2]] == ["full", "namm", "fifo"]
    assert results.summary[2]["kept"] < 1


def test_context_changes_the_window(config):
    wide = evaluate(config(memory=("window",), policy=(), context=10))
    narrow = evaluate(config(memory=("window",), policy=(), context=1))
    assert [row["context"] for row in wide.rows] == [10, 10]
    assert [row["return"] for row in wide.rows] != [row["return"] for row in narrow.rows]


def test_v5_pays_no_healthy_reward_on_the_last_step(config):
    old = evaluate(config(memory=("window",), policy=()))
    new = evaluate(config(memory=("window",), policy=(), env_version="v5"))
    assert new.versions["env"] == "Hopper-v5"
    for before, after in zip(old.rows, new.rows):
        assert before["terminated"] and before["length"] == after["length"]
        assert before["return"] - after["return"] == pytest.approx(1.0, abs=1e-6)


class Dying(WindowController):
    """Ends the process's patience at its second batch."""

    batches = 0

    def reset(self, episodes):
        super().reset(episodes)
        type(self).batches += episodes > 0
        if type(self).batches == 3:
            raise ZeroDivisionError("killed")


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(config, tmp_path, monkeypatch):
    def settings(name):
        return config(
            memory=("window", "full"), policy=(), episodes=5, num_envs=2, out=tmp_path / name
        )

    whole = evaluate(settings("whole"))
    with monkeypatch.context() as patch:
        patch.setattr(control_benchmark, "WindowController", Dying)
        with pytest.raises(ZeroDivisionError):
            evaluate(settings("killed"))
    # As if the kill had come in the middle of a line of the batch after the finished ones.
    with (tmp_path / "killed/rows.jsonl").open("a") as file:
        file.write(json.dumps({**whole.rows[-1], "d4rl_score": 1e9}) + "\n" + '{"policy')
    played = []
    monkeypatch.setattr(
        control_benchmark,
        "stream",
        lambda *args, **more: played.append(args[2]) or stream(*args, **more),
    )
    resumed = evaluate(settings("killed"))
    # Of the first two batches both protocols had ended.
    assert played == [[4], [4]]
    assert timeless(resumed.rows) == timeless(whole.rows)
    assert timeless(resumed.summary) == timeless(whole.summary)
    again = evaluate(settings("killed"))
    assert len(played) == 2
    assert (again.rows, again.summary) == (resumed.rows, resumed.summary)


def test_other_settings_are_neither_mixed_in_nor_replaced(config, tmp_path):
    evaluate(config(memory=("window",), policy=(), out=tmp_path, max_steps=2))
    before = (tmp_path / "rows.jsonl").read_text()
    with pytest.raises(UserError, match=r"holds a run with max_steps 2, not 3; .*another --out"):
        evaluate(config(memory=("window",), policy=(), out=tmp_path, max_steps=3))
    assert (tmp_path / "rows.jsonl").read_text() == before


class Failing(gymnasium.Wrapper):
    """Raises in the fourth step of the episodes whose seeds it is told."""

    def __init__(self, env, seeds):
        super().__init__(env)
        self.seeds = seeds

    def reset(self, *, seed=None, options=None):
        self.seed, self.step_number = seed, 0
        return self.env.reset(seed=seed)

    def step(self, action):
        self.step_number += 1
        if self.step_number == 4 and self.seed in self.seeds:
            raise RuntimeError("a leg fell off")
        return self.env.step(action)


def failing(seeds):
    return lambda *args, **more: [Failing(env, seeds) for env in make_envs(*args, **more)]


def test_a_failed_episode_is_marked_and_in_no_mean(config, monkeypatch):
    settings = config(memory=("window", "full"), policy=(), episodes=4, num_envs=2)
    whole = evaluate(settings)
    monkeypatch.setattr(control_benchmark, "make_envs", failing({1}))
    results = evaluate(settings)
    sentence = "Hopper-v4, seed 1, step 3: the simulator failed (a leg fell off)"
    assert failures_of(results) == {1: sentence}
    for row in results.rows:
        if row["item"] == 1:
            assert (row["failure"], row["length"], row["d4rl_score"]) == (sentence, 4, None)
    for entry, before in zip(results.summary, whole.summary):
        assert (entry["n"], entry["failed"], before["failed"]) == (3, 1, 0)
        own = rows_of(results, entry["policy"], entry["target_return"])
        scores = [row[entry["metric"]] for row in own if row["item"] != 1]
        assert entry["mean"] == pytest.approx(np.mean(scores))
    text = printed(results)
    assert "Failed, and in no mean: 2 of 8 rows" in text and "1: Hopper-v4, seed 1" in text


def test_a_protocol_of_which_every_episode_failed_has_rows_and_no_entry(
    config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(control_benchmark, "make_envs", failing({0, 1}))
    settings = config(memory=("window",), policy=(), out=tmp_path)
    results = evaluate(settings)
    assert results.summary == [] and list(failures_of(results)) == [0, 1]
    assert (tmp_path / "rows.jsonl").read_text().count("a leg fell off") == 2
    words = ["eval", "control", "--model", settings.model, "--memory", "window", "--policy"]
    assert main([*words, "--episodes", "2", "--max-steps", "30"]) == 1
    said = capsys.readouterr()
    assert said.err == "error: every item of window failed; see above\n"
    assert "0: Hopper-v4, seed 0, step 3: the simulator failed (a leg fell off)" in said.out
    # What failed is tried again.
    monkeypatch.setattr(control_benchmark, "make_envs", make_envs)
    assert failures_of(evaluate(settings)) == {}


def test_noise_is_the_same_for_all_protocols_and_changes_returns(config):
    settings = {"memory": ("window", "full"), "policy": (), "max_steps": 3}
    calm = evaluate(config(**settings))
    noisy = evaluate(config(**settings, noise=0.5, noise_every=1, noise_length=1))
    assert [row["return"] for row in calm.rows] != [row["return"] for row in noisy.rows]
    # The tiny model's context is as long: both protocols act alike, so the noise must be alike.
    for row in rows_of_all(noisy, "window"):
        [other] = rows_of_all(noisy, "full", item=row["item"])
        assert row["return"] == pytest.approx(other["return"], abs=1e-4)


def test_scale_and_delayed_change_what_the_model_is_told(config, monkeypatch):
    told = []

    class Listening(WindowController):
        def act(self, states, returns_to_go, previous_actions):
            told.append(returns_to_go[:, 0].tolist())
            return super().act(states, returns_to_go, previous_actions)

    monkeypatch.setattr(control_benchmark, "WindowController", Listening)
    settings = {"memory": ("window",), "policy": (), "target_return": (3000.0,), "max_steps": 3}
    evaluate(config(**settings, scale=500.0, delayed=True))
    assert told == [[6.0, 6.0]] * 3
    told.clear()
    evaluate(config(**settings))
    assert told[0] == [3.0, 3.0] and max(told[2]) < 3.0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"num_envs": 0}, "num-envs is 0"),
        ({"context": 0}, "context is 0"),
        ({"seeds": (1, 1)}, "seeds are 1 1"),
        ({"seeds": (-1,)}, "--seeds is -1"),
        ({"target_return": (float("nan"),)}, "--target-return is nan"),
        ({"target_return": (float("inf"),)}, "--target-return is inf"),
        ({"budget": (0,)}, "budget 0 keeps nothing"),
        ({"budget": (1.5,)}, "budget 1.5 is not a fraction"),
        ({"budget": (float("nan"),)}, "budget nan is not a fraction"),
        ({"memory": (), "policy": ()}, "neither a memory nor a policy"),
        ({"context": 1}, "memory cache needs a context of 2"),
        ({"policy": ("h2o",), "budget": (None,)}, "policy h2o has no threshold"),
        ({"update_interval": 10}, "update interval 10 does not fit policy namm"),
        ({"policy": ("namm",), "namm": ("recal",)}, "unknown NAMM 'recal'; did you mean recall"),
        ({"env": ("walker2d",)}, "trained for hopper"),
        ({"env": ("hoper",)}, "unknown environment 'hoper'; did you mean hopper"),
        ({"max_steps": 41}, "41 steps"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"noise_every": 0}, "noise-every is 0"),
        ({"scale": 0.0}, "scale is 0.0"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(config, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(config(**settings))


def test_rules_get_the_bytes_of_the_namm_and_fifo_its_tokens(config):
    settings = config(policy=("all",), namm=("recall", "random"), equal_bytes=True)
    contenders = ControlBenchmark(settings).contenders()
    budgets = {one.name: one.pruning.budget for one in contenders if one.pruning}
    assert {"namm:recall", "namm:random", "h2o", "tova", "fifo"} <= set(budgets)
    assert budgets["namm:recall"] == budgets["namm:random"] == budgets["fifo"] == 8
    assert min(budgets[rule] for rule in ("fastgen", "h2o", "recency", "l2_norm", "tova")) > 8
    with pytest.raises(UserError, match="add it to --policy"):
        evaluate(config(policy=("h2o",), equal_bytes=True))
