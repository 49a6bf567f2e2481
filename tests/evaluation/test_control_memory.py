"""Control in environments that say which states have to be remembered, with a random model."""

import numpy as np
import pytest
from evaluated import changed, failures_of, rows_of
from memory_model import ENV, random_model

from transfer.adapters.control_model import save_control_model
from transfer.adapters.decision_transformer import CachedController, state_token
from transfer.attachment.memory import attach
from transfer.envs.environment import make_env
from transfer.envs.rollout import rollout
from transfer.errors import UserError
from transfer.evaluation.control import ControlEval
from transfer.evaluation.runner import evaluate
from transfer.policies import get_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("random")
    save_control_model(random_model(ENV), path)
    return path


def run(folder, **settings):
    given = {"episodes": 6, "memory": ("full", "window"), "budget": (6,), "update_interval": 6}
    return evaluate(changed(ControlEval(model=str(folder)), **(given | settings)))


def test_the_oracle_holds_every_cue_to_the_end_and_fifo_none(folder):
    results = run(folder, policy=("oracle", "oracle:after=3", "h2o"))
    assert results.metrics == ("success", "return")
    for row in rows_of(results, "oracle") + rows_of(results, "oracle:after=3"):
        assert row["kept_cues"] == 1.0
        assert row["kept_tokens"] <= 6 + 6
    # A cue is in the first half, and the newest six tokens are of the last two steps or so.
    assert all(row["kept_cues"] == 0.0 for row in rows_of(results, "fifo"))
    assert all(row["kept_cues"] == 1.0 for row in rows_of(results, "full"))
    assert all(row["kept_cues"] is None for row in rows_of(results, "window"))
    assert {row["task"] for row in results.rows} == {"tmaze:length=24"}


def test_who_never_turns_never_succeeds(folder):
    results = run(folder, policy=("h2o",))
    assert {row["success"] for row in results.rows} == {0.0}
    assert {row["length"] for row in results.rows} == {24}


def test_tokens_after_a_cue_stay_with_it():
    control, seeds = random_model(ENV), [3, 4, 5]
    envs = [make_env(ENV) for _ in seeds]
    with attach(control.model, get_policy("recency", sinks=0), update_interval=6, budget=8) as held:
        controller = CachedController(control, held.new_cache, protected_after=2)
        seen = []
        act = controller.act

        def watched(*given):
            actions = act(*given)
            seen.append([held.cache.pruned[0].positions_of(row) for row in range(len(actions))])
            return actions

        controller.act = watched
        rollout(controller, envs, seeds, 1.0, 1.0, 24)
    for row, env in enumerate(envs):
        [cue] = np.flatnonzero(env.unwrapped.script.cues)
        first = state_token(int(cue))
        for head in seen[-1][row]:
            assert {first, first + 1, first + 2} <= set(head.tolist())
            assert set(head.tolist()) != set(range(24 * 3))


def test_the_oracle_needs_an_environment_that_tells_it(folder, tmp_path):
    save_control_model(random_model("CartPole-v1"), tmp_path)
    with pytest.raises(UserError, match="oracle is told what has to be remembered, and CartPole"):
        run(tmp_path, policy=("oracle",), max_steps=50)


def test_an_oracle_that_would_protect_more_than_the_budget_fails_in_a_sentence(folder):
    results = run(folder, policy=("oracle:after=9",))
    failures = failures_of(results)
    assert len(failures) == 6
    assert all("budget" in reason for reason in failures.values())


def test_noise_cannot_be_added_to_choices(folder):
    with pytest.raises(UserError, match=r"noise is 0.1, and actions of tmaze.* are choices"):
        run(folder, noise=0.1)


def test_several_settings_of_an_environment_are_each_run(folder, tmp_path):
    lengths = ("tmaze:length=12", "tmaze:length=24")
    settings = {"policy": ("h2o",), "env": lengths, "memory": ("full",), "out": tmp_path}
    together = run(folder, **settings)
    assert list(dict.fromkeys(entry["task"] for entry in together.summary)) == list(lengths)
    # As each alone, whose environments are made anew.
    for length in lengths:
        alone = run(folder, policy=("h2o",), env=(length,), memory=("full",))
        for policy in ("full", "h2o", "fifo"):
            ours = [row for row in rows_of(together, policy) if row["task"] == length]
            theirs = rows_of(alone, policy)
            assert [row["length"] for row in ours] == [int(length[-2:])] * 6
            assert [r["kept_cues"] for r in ours] == [r["kept_cues"] for r in theirs]
    with pytest.raises(UserError, match="tmaze and gates are two, and the model plays one"):
        run(folder, env=("tmaze", "gates"))
