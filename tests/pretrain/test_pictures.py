"""Pictures: from an expert's episodes to a model that convolves them, under a pruned cache."""

import json
from dataclasses import replace
from math import prod

import pytest
import torch
from evaluated import changed
from safetensors.torch import load_file
from transformers import DynamicCache

from transfer.adapters.decision_transformer import (
    CachedController,
    WindowController,
    load_control_model,
)
from transfer.attachment.check import check_adapter
from transfer.cli import main
from transfer.envs.collect import CollectConfig, collect
from transfer.envs.d4rl import state_statistics
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import environment
from transfer.errors import UserError
from transfer.evaluation.control import ControlEval
from transfer.evaluation.runner import evaluate
from transfer.pretrain.decision_transformer import PretrainConfig, pretrain
from transfer.pretrain.decision_transformer.train import ControlLesson

CORRIDOR = "corridor_env:Corridor-v0:length=6,kind="
SCREEN = f"{CORRIDOR}screen"
SHAPE = (40, 36, 3)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    collect(CollectConfig(out=folder / "screen.hdf5", env=SCREEN, episodes=40, skilled=1.0))
    return PretrainConfig(
        dataset=(str(folder / "screen.hdf5"),), out=folder / "model", env=SCREEN, targets=(1.0,),
        states="convolution", hidden=32, layers=2, heads=2, context=6, whole_episodes=True,
        scale=1.0, dropout=0.0, lr=1e-2, clip=1.0, warmup=10, max_ep_len=16, batch=32, steps=75,
        eval_every=75, eval_episodes=8, report_episodes=8, bf16=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(config):
    return pretrain(config)


def test_what_a_picture_showed_is_learned_and_acted_on_from_a_pruned_cache(config, trained):
    [record] = map(json.loads, (config.out / "training.jsonl").read_text().splitlines())
    assert record["return_mean"] == 1.0
    check = check_adapter(trained.model)
    assert check.pruned_layers == check.layers == 2
    played = changed(
        ControlEval(model=str(config.out)), episodes=8, memory=("full",), policy=("recency",),
        budget=(6,), update_interval=3, max_steps=6,
    )  # fmt: skip
    results = evaluate(played)
    # The picture that matters is the first: sinks hold it, first-in-first-out does not.
    found = {(row["policy"], row["kept_tokens"], row["return"]) for row in results.rows}
    assert found == {("full", 17, 1), ("recency", 6, 1), ("fifo", 6, 0), ("fifo", 6, 1)}


def test_the_folder_says_what_it_is_and_is_loaded_again(config, trained):
    said = json.loads((config.out / "config.json").read_text())
    assert (said["picture"], said["state_dim"]) == ([*SHAPE], prod(SHAPE))
    weights = load_file(config.out / "model.safetensors")
    assert weights["embed_state.layers.0.weight"].shape == (32, 3, 8, 8)
    # What predicts a state would be as large as all the rest.
    assert not any(name.startswith("predict_state") for name in weights)
    states = torch.rand(2, 4, prod(SHAPE))
    embedded = load_control_model(config.out).model.embed_state(states)
    assert embedded.shape == (2, 4, 32)
    torch.testing.assert_close(embedded, trained.model.embed_state(states))
    card = " ".join((config.out / "CARD.md").read_text().split())
    assert "loads with this package alone, whose convolutions see its states as pictures of" in card
    assert "pictures of 40 x 36 x 3; `control.json`" in card and "--states convolution" in card


def test_both_ways_of_stepping_give_the_same_actions(trained):
    taken = []
    for controller in (
        WindowController(trained),
        CachedController(trained, lambda: DynamicCache(config=trained.model.config)),
    ):
        generator, previous, actions = torch.Generator().manual_seed(0), None, []
        controller.control = replace(trained, choices=())
        controller.reset(3)
        for _ in range(6):
            states = torch.rand(3, prod(SHAPE), generator=generator)
            previous = controller.act(states, torch.ones(3, 1), previous)
            actions.append(previous)
        taken.append(torch.stack(actions))
    torch.testing.assert_close(*taken, atol=1e-4, rtol=1e-4)


def test_pictures_are_not_normalised_unless_asked(config):
    data = [read_dataset(config.dataset[0], SCREEN)]
    assert ControlLesson(config, data, []).control.state_std.unique().tolist() == [1.0]
    asked = ControlLesson(replace(config, normalise="data"), data, []).control
    _, std = state_statistics(data[0].trajectories)
    assert asked.state_std.tolist() == pytest.approx(std.tolist())


@pytest.mark.parametrize("kind", ["first", "turned", "grey"])
def test_a_picture_of_another_shape_is_another_environment(config, trained, kind):
    other = f"{CORRIDOR}{kind}"
    sentence = r"pictures of shape \(40, 36, 3\), and observations of .* are of shape"
    if kind == "grey":
        sentence = "reads states of 4320 numbers .* has 1440"
    with pytest.raises(UserError, match=sentence):
        load_control_model(config.out, other)


@pytest.mark.parametrize(
    ("env", "seen"),
    [
        (f"{CORRIDOR}picture", "of 2 x 3 x 1"),
        (f"{CORRIDOR}vector", "none"),
        (f"{CORRIDOR}dict", "none"),
        (f"{CORRIDOR}choice", "none"),
        ("hopper", "none"),
    ],
)
def test_what_cannot_be_convolved_is_refused_before_anything_is_read(config, env, seen, tmp_path):
    title = environment(env).title
    with pytest.raises(UserError) as raised:
        pretrain(replace(config, dataset=("nowhere.hdf5",), env=env, out=tmp_path / "out"))
    assert str(raised.value) == (
        "--states convolution needs an observation that is one picture of 36 x 36 or more, and that"
        f" of {title} is {seen}; use --states linear"
    )
    assert not (tmp_path / "out").exists()


def test_the_stock_model_is_what_is_trained_unless_asked(config, tmp_path):
    words = ["pretrain", "decision-transformer", "--dataset", *config.dataset, "--out"]
    words += [str(tmp_path / "out"), "--env", SCREEN, "--targets", "1", "--context", "6"]
    words += ["--hidden", "16", "--layers", "1", "--steps", "1", "--eval-episodes", "1"]
    assert main([*words, "--report-episodes", "1", "--max-ep-len", "16"]) == 0
    said = json.loads((tmp_path / "out/config.json").read_text())
    assert "picture" not in said and said["architectures"] == ["DecisionTransformerModel"]
    assert load_control_model(tmp_path / "out").model.embed_state.weight.shape == (16, prod(SHAPE))
