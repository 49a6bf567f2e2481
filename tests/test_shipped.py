"""What ships does what its cards say, on a few seeds."""

import pytest

from transfer import NAMM
from transfer.adapters.decision_transformer import (
    CachedController,
    WindowController,
    load_control_model,
)
from transfer.adapters.kinds import shipped_models
from transfer.adapters.language_model import load_language_model
from transfer.adapters.scoring import score_batch
from transfer.attachment.memory import attach
from transfer.checkpoints import shipped
from transfer.envs.environment import environment, make_envs
from transfer.envs.rollout import rollout
from transfer.evaluation.control import ControlEval
from transfer.evaluation.options import ContenderOptions, RunOptions
from transfer.evaluation.runner import evaluate
from transfer.evaluation.video import VideoEval
from transfer.tasks.recall import TASKS, make_batch

#: At the first target, over few episodes; the cards have 100.
LEAST_SCORES = {
    "hopper-mixed": 85,
    "hopper-expert": 70,
    "hopper-medium-replay": 55,
    "hopper-medium": 45,
    "halfcheetah-expert": 55,
    "halfcheetah-medium-replay": 15,
    "halfcheetah-medium": 15,
    "walker2d-expert": 70,
    "walker2d-medium-replay": 15,
    "walker2d-medium": 35,
}
#: Success in per cent with the full cache, and the most with the stock window, which forgets.
MEMORY_SCORES = {
    "tmaze-none": (98, 75),
    "tmaze-learned": (98, 75),
    "tmaze-stretched": (98, 75),
    "gates-none": (98, 75),
    "gates-learned": (98, 75),
    "gates-stretched": (98, 75),
    "minigrid-memory-none": (98, 80),
    # What has to be recalled is three steps old.
    "repeat-previous-learned": (98, 100),
}


def played(controller, control, episodes=4, **more):
    envs = make_envs(control.env, episodes)
    target = control.target_returns[0]
    done, _ = rollout(controller, envs, range(episodes), target, control.scale, **more)
    return [episode.episode_return for episode in done]


def mean_score(control, returns):
    return environment(control.env).score(sum(returns) / len(returns))


@pytest.mark.parametrize("name", LEAST_SCORES)
def test_decision_transformers_reach_their_scores(name):
    control = load_control_model(f"decision-transformer-{name}")
    returns = played(WindowController(control), control)
    assert mean_score(control, returns) >= LEAST_SCORES[name]
    assert f"{control.env}-{control.quality}" == name


@pytest.mark.parametrize("name", MEMORY_SCORES)
def test_mazes_are_solved_with_a_full_cache_and_not_with_a_window(name):
    model, (least, most) = f"decision-transformer-{name}", MEMORY_SCORES[name]
    config = ControlEval(
        model, memory=("full", "window"), episodes=40, contenders=ContenderOptions(policy=())
    )
    if config.model.startswith(("decision-transformer-mini", "decision-transformer-rep")):
        pytest.importorskip("minigrid", reason="needs the extra `memory`")
    full, window = (entry for entry in evaluate(config).summary if entry["metric"] == "success")
    assert (full["policy"], window["policy"]) == ("full", "window")
    assert 100 * full["mean"] >= least
    assert 100 * window["mean"] <= most


def test_cached_stepping_is_the_stock_protocol_for_the_first_k_steps():
    control = load_control_model("decision-transformer-hopper-mixed")
    envs, target = make_envs("hopper", 4), control.target_returns[0]
    with attach(control.model, "full", update_interval=48) as memory:
        cached = CachedController(control, memory.new_cache)
        ours, _ = rollout(cached, envs, range(4), target, control.scale, max_steps=20)
    stock, _ = rollout(WindowController(control), envs, range(4), target, control.scale, 20)
    for one, other in zip(ours, stock):
        assert one.episode_return == pytest.approx(other.episode_return, abs=1e-3)


def test_the_same_seeds_give_the_same_digits():
    control = load_control_model("decision-transformer-hopper-mixed")
    with attach(
        control.model, NAMM.from_pretrained("recall"), update_interval=48, budget=24
    ) as memory:
        controller = CachedController(control, memory.new_cache)
        first, again = (played(controller, control, max_steps=150) for _ in range(2))
    assert first == again
    assert len({*first}) == 4


def test_the_shipped_namm_recalls_more_than_hand_made_rules_do_with_more_bytes():
    model = load_language_model("llama-recall").model
    batch = make_batch(TASKS["recall"], 256, range(60))

    def recall(policy, budget):
        with attach(model, policy, update_interval=32, budget=budget) as memory:
            cache = memory.new_cache()
            return float(score_batch(model, batch, cache).correct.mean()), cache.bytes()

    ours, our_bytes = recall(NAMM.from_pretrained("recall"), 24)
    rules = [recall(rule, 52) for rule in ("fastgen", "h2o", "h2o_age", "snapkv", "tova")]
    rules += [recall(rule, 96) for rule in ("l2_norm", "random", "recency")]
    assert min(size for _, size in rules) > our_bytes
    assert ours >= max(right for right, _ in rules) + 0.05


def test_a_quarter_of_the_cache_answers_as_well_and_is_likelier_than_all_of_it():
    model = load_language_model("llama-recall").model
    batch = make_batch(TASKS["recall"], 256, range(60))
    full = score_batch(model, batch)
    with attach(model, NAMM.from_pretrained("recall"), update_interval=32, budget=64) as memory:
        pruned = score_batch(model, batch, memory.new_cache())
    assert float(full.correct.mean()) >= 0.99
    assert float(pruned.correct.mean()) >= float(full.correct.mean()) - 0.02
    assert (pruned.log_likelihood - full.log_likelihood).mean() > 0.1


@pytest.mark.parametrize("name", ["llama-recall-wide", "gpt2-recall"])
def test_it_beats_h2o_on_models_it_was_not_evolved_on(name):
    model = load_language_model(name).model
    batch = make_batch(TASKS["recall"], 256, range(40))
    right = {}
    for policy in (NAMM.from_pretrained("recall"), "h2o"):
        with attach(model, policy, update_interval=32, budget=24) as memory:
            right[policy] = float(score_batch(model, batch, memory.new_cache()).correct.mean())
    ours, h2o = right.values()
    assert ours >= h2o + 0.1


def test_the_paper_s_variant_prunes_by_its_own_threshold():
    model, namm = load_language_model("llama-recall").model, NAMM.from_pretrained("recall-paper")
    assert namm.config.features == "spec"
    batch = make_batch(TASKS["recall"], 256, range(40))
    with attach(model, namm, update_interval=32, eviction="reference") as memory:
        cache = memory.new_cache()
        right = float(score_batch(model, batch, cache).correct.mean())
    kept = [tokens for layer in cache.kept() for row in layer for tokens in row]
    assert sum(kept) / len(kept) < 0.3 * 256
    assert right >= 0.85


def test_the_video_model_answers_and_the_namm_keeps_what_random_eviction_loses(tmp_path):
    config = VideoEval(
        model="llava-next-video",
        questions=56,
        data=tmp_path,
        contenders=ContenderOptions(policy=("namm", "random"), budget=(0.25,)),
        run=RunOptions(threads=1),
    )
    overall = {
        (entry["policy"], entry["metric"]): entry["mean"]
        for entry in evaluate(config).summary
        if entry["group_by"] == "all"
    }
    assert overall["full", "correct_likelihood"] >= 0.85
    assert overall["full", "correct_reply"] >= 0.85
    assert overall["random", "correct_likelihood"] <= overall["full", "correct_likelihood"] - 0.3
    assert overall["namm", "correct_likelihood"] >= overall["random", "correct_likelihood"] + 0.3


def test_everything_that_ships_has_a_card():
    for folder in {**shipped("config.json"), **shipped("namm.safetensors")}.values():
        assert "transfer " in (folder / "CARD.md").read_text(), folder.name
    assert len(shipped_models("control")) == len(LEAST_SCORES) + len(MEMORY_SCORES)
