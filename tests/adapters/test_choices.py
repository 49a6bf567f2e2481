"""Decision Transformers whose actions are choices: one-hot in and out, the largest logit taken."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel, DynamicCache

from transfer.adapters.decision_transformer import (
    CachedController,
    ControlModel,
    WindowController,
    load_control_model,
    save_control_model,
)
from transfer.envs.environment import make_envs
from transfer.envs.rollout import rollout
from transfer.errors import UserError

CARTPOLE = "CartPole-v1"


def control_model(choices=(3, 2), states=4, actions=None, env=CARTPOLE):
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=states, act_dim=actions or sum(choices), hidden_size=16, n_layer=2, n_head=2,
        max_ep_len=600, n_positions=4, initializer_range=0.5, action_tanh=False,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return ControlModel(
        model=DecisionTransformerModel(config).eval(),
        state_mean=torch.zeros(states),
        state_std=torch.ones(states),
        target_returns=(100.0,),
        env=env,
        quality="scripted",
        choices=choices,
    )


def controllers(control):
    yield WindowController(control)
    yield CachedController(control, lambda: DynamicCache(config=control.model.config))


def test_of_each_choice_the_largest_alone_is_taken():
    control = control_model()
    logits = torch.tensor([[0.1, 0.3, 0.2, -5.0, -6.0], [9.0, -1.0, 8.0, 0.0, 0.5]])
    expected = torch.tensor([[0.0, 1, 0, 1, 0], [1, 0, 0, 0, 1]])
    assert torch.equal(control.decided(logits), expected)
    real = replace(control, choices=())
    assert torch.equal(real.decided(logits), logits)


def test_both_controllers_decide_alike_and_hear_of_what_they_decided():
    control, taken = control_model(), []
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(12, 8, 4, generator=generator)
    for controller in controllers(control):
        controller.reset(8)
        previous, actions = None, []
        for now in states:
            previous = controller.act(now, torch.ones(8, 1), previous)
            actions.append(previous)
        taken.append(torch.stack(actions))
    assert torch.equal(*taken)
    groups = taken[0].split((3, 2), dim=-1)
    assert all(torch.equal(group.sum(-1), torch.ones(12, 8)) for group in groups)
    assert set(taken[0].unique().tolist()) == {0.0, 1.0}
    # a model that has always the same to say would tell nothing
    assert len(taken[0].flatten(0, 1).unique(dim=0)) > 2


def test_logits_that_are_no_numbers_decide_nothing():
    control = control_model((2,))
    with torch.no_grad():
        control.model.predict_action[0].bias[1] = torch.nan
    [episode], _ = rollout(WindowController(control), make_envs(CARTPOLE, 1), [0], 100.0, 1000.0)
    assert episode.failure is not None and "the policy's action is not finite" in episode.failure


def test_choices_have_to_fit_the_model():
    for wrong in ((3, 3), (5, 0), (-1, 6)):
        with pytest.raises(UserError, match=r"choices are .* but the model gives 5 numbers"):
            control_model(wrong, actions=5)


def test_they_are_saved_and_read_and_absent_where_actions_are_real(tmp_path):
    save_control_model(control_model(), tmp_path)
    assert load_control_model(tmp_path).choices == (3, 2)
    save_control_model(replace(control_model(), choices=()), tmp_path)
    assert "choices" not in json.loads((tmp_path / "control.json").read_text())
    assert load_control_model(tmp_path).choices == ()


@pytest.mark.parametrize("wrong", ["3, 2", [3.0, 2.0], 5, [True, 4], None])
def test_choices_that_cannot_be_used(tmp_path, wrong):
    save_control_model(control_model(), tmp_path)
    told = json.loads((tmp_path / "control.json").read_text())
    (tmp_path / "control.json").write_text(json.dumps(told | {"choices": wrong}))
    with pytest.raises(UserError, match=r"control\.json is not usable"):
        load_control_model(tmp_path)


def test_the_environment_says_what_a_bare_folder_does_not(tmp_path):
    save_control_model(control_model((2,)), tmp_path)
    (tmp_path / "control.json").unlink()
    statistics = tmp_path / "statistics.json"
    statistics.write_text(
        json.dumps({"state_mean": [0.0] * 4, "state_std": [1.0] * 4, "target_returns": [100.0]})
    )
    control = load_control_model(tmp_path, CARTPOLE, statistics=statistics)
    assert control.choices == (2,)
    episodes, _ = rollout(WindowController(control), make_envs(CARTPOLE, 4), range(4), 100.0, 1e3)
    assert all(episode.failure is None and episode.length > 5 for episode in episodes)


def test_an_environment_of_other_sizes_or_choices_is_refused(tmp_path):
    save_control_model(control_model((1, 1)), tmp_path)
    with pytest.raises(UserError, match=r"are choices of \(1, 1\) values, but .* of \(2,\)"):
        load_control_model(tmp_path, CARTPOLE)
    save_control_model(control_model((1,), states=3, env="Pendulum-v1"), tmp_path)
    with pytest.raises(UserError, match=r"of \(1,\) values, but those of Pendulum-v1 are real"):
        load_control_model(tmp_path, "Pendulum-v1")
    save_control_model(control_model((2,), states=6), tmp_path)
    with pytest.raises(UserError, match=r"reads states of 6 numbers .* but CartPole-v1 has 4"):
        load_control_model(tmp_path, CARTPOLE)


def test_a_model_remembers_the_settings_of_its_environment(tmp_path):
    name = "gates:kinds=2,length=20"
    save_control_model(control_model((3,), states=10, env=name), tmp_path)
    assert load_control_model(tmp_path).env == name
    with pytest.raises(UserError, match=r"reads states of 10 numbers .* but gates has 14"):
        load_control_model(tmp_path, "gates")
    for known in (f"{name},decoys=1", name):
        assert load_control_model(tmp_path, known).choices == (3,)
    with pytest.raises(UserError, match="was trained for gates:kinds=2,length=20, not for tmaze"):
        load_control_model(tmp_path, "tmaze")
    (tmp_path / "control.json").unlink()
    statistics = tmp_path / "statistics.json"
    statistics.write_text(json.dumps({"state_mean": [0.0] * 10, "state_std": [1.0] * 10}))
    assert load_control_model(tmp_path, name, statistics=statistics).env == name
