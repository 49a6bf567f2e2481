import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_control import save_tiny_control
from transformers import DecisionTransformerConfig, DecisionTransformerModel, DynamicCache

from transfer.adapters.control_facts import read_statistics
from transfer.adapters.decision_transformer import (
    CachedController,
    ControlModel,
    WindowController,
    load_control_model,
    save_control_model,
)
from transfer.adapters.kinds import shipped_models
from transfer.adapters.published_control import d4rl_statistics, published_models
from transfer.envs.environment import make_envs
from transfer.envs.rollout import rollout
from transfer.errors import UserError


def control_model(dtype=torch.float32, **changes):
    config = DecisionTransformerConfig(
        **{"state_dim": 11, "act_dim": 3, "hidden_size": 32, "n_layer": 3, "n_head": 2,
           "max_ep_len": 100, "n_positions": 4, "bos_token_id": None, "eos_token_id": None}
        | changes
    )  # fmt: skip
    model = DecisionTransformerModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    size = config.state_dim
    mean, std = torch.linspace(-1, 1, size), torch.linspace(0.5, 2, size)
    return ControlModel(
        model=model.to(dtype),
        state_mean=mean,
        state_std=std,
        target_returns=(3300.0, 1500.0),
        env="hopper",
        quality="mixed",
        data={"a.hdf5": "0" * 64},
    )


def dynamic(control):
    return CachedController(control, lambda: DynamicCache(config=control.model.config))


def actions_of(controller, steps, episodes=3, drop_at=None):
    """Actions of fixed random states; episode 1 leaves at `drop_at`."""
    generator = torch.Generator().manual_seed(0)
    controller.reset(episodes)
    previous, kept, taken = None, torch.arange(episodes), []
    for step in range(steps):
        states = torch.randn(episodes, 11, generator=generator)
        to_go = torch.rand(episodes, 1, generator=generator)
        if step == drop_at:
            rows = torch.tensor([0, 2])
            controller.select(rows)
            previous, kept = previous[rows], kept[rows]
        previous = controller.act(states[kept], to_go[kept], previous)
        taken.append(previous)
    return taken


def largest_difference(first, second):
    return max((a - b).abs().max().item() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("drop_at", [None, 7])
def test_cached_equals_stock_for_the_first_k_steps(drop_at):
    control = control_model()
    stock = actions_of(WindowController(control), 20, drop_at=drop_at)
    cached = actions_of(dynamic(control), 20, drop_at=drop_at)
    assert largest_difference(stock, cached) < 1e-5
    assert stock[-1].std() > 0.05


def test_cached_equals_the_full_history_in_double_precision():
    control = replace(control_model(torch.float64), context=60)
    stock = actions_of(WindowController(control), 60, drop_at=31)
    assert largest_difference(stock, actions_of(dynamic(control), 60, drop_at=31)) < 1e-12


def test_cached_differs_from_stock_once_the_window_slides():
    control = replace(control_model(), context=5)
    stock, cached = actions_of(WindowController(control), 9), actions_of(dynamic(control), 9)
    assert largest_difference(stock[:5], cached[:5]) < 1e-5
    assert largest_difference(stock[5:], cached[5:]) > 1e-2


def test_window_equals_the_stock_model_with_left_padding():
    """The published protocol pads short histories on the left and masks them."""
    control, context = control_model(), 20
    controller = WindowController(control)
    taken = actions_of(controller, 6, episodes=2)
    window = controller._window
    pad = context - 6

    def padded(values):
        return torch.nn.functional.pad(values, (0, 0, pad, 0))

    with torch.no_grad():
        expected = control.model(
            states=padded(window["states"]),
            actions=padded(window["actions"]),
            returns_to_go=padded(window["returns"]),
            timesteps=torch.cat([torch.zeros(pad, dtype=torch.long), torch.arange(6)]).repeat(2, 1),
            attention_mask=torch.cat([torch.zeros(2, pad), torch.ones(2, 6)], 1),
        ).action_preds[:, -1]
    assert (expected - taken[-1]).abs().max() < 1e-5


def test_reset_forgets():
    control = control_model()
    for controller in (WindowController(control), dynamic(control)):
        first = actions_of(controller, 5)
        assert largest_difference(first, actions_of(controller, 5)) == 0.0


class Unpadded(DynamicCache):
    """Claims to drop padding, and shows which masks the encoder was given."""

    stores_padding = False


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Unpadded, [[0, 1, 1], None, None]),
        (DynamicCache, [[0, 1, 1], [0, 1, 1, 1, 1, 1], [0] + [1] * 8]),
    ],
)
def test_attention_masks_given_to_the_encoder(monkeypatch, kind, expected):
    control, masks, lengths = control_model(), [], []
    encode = control.model.encoder.forward

    def spy(**given):
        mask = given["attention_mask"]
        masks.append(None if mask is None else mask[1].tolist())
        lengths.append(given["inputs_embeds"].shape[1])
        assert not given["position_ids"].any()
        return encode(**given)

    monkeypatch.setattr(control.model.encoder, "forward", spy)
    actions_of(CachedController(control, lambda: kind(config=control.model.config)), 3)
    assert masks == expected
    assert lengths == [3, 3, 3]


def test_states_are_normalised_by_the_models_statistics():
    control = control_model()
    states = torch.randn(4, 11)
    expected = (states - control.state_mean) / control.state_std
    torch.testing.assert_close(control.normalized(states), expected)


def test_horizon_past_the_time_embedding_is_refused():
    control = control_model(max_ep_len=4)
    control.check_horizon(4)
    sentence = "episodes of 5 steps are longer than the 4 time steps"
    with pytest.raises(UserError, match=sentence):
        control.check_horizon(5)
    for controller in (WindowController(control), dynamic(control)):
        with pytest.raises(UserError, match=sentence):
            actions_of(controller, 5)


def test_rollout_in_hopper_is_the_same_in_either_way_while_the_window_holds():
    control = control_model()
    envs = make_envs("hopper", 3)
    stock, _ = rollout(WindowController(control), envs, range(5), 3000.0, 1000.0, max_steps=20)
    cached, _ = rollout(dynamic(control), envs, range(5), 3000.0, 1000.0, max_steps=20)
    assert [episode.length for episode in stock] == [episode.length for episode in cached]
    for one, other in zip(stock, cached):
        assert one.episode_return == pytest.approx(other.episode_return, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saving_and_loading(tmp_path, dtype):
    control = control_model()
    save_control_model(control, tmp_path, dtype)
    loaded = load_control_model(tmp_path)
    assert loaded.model.dtype == torch.float32
    assert not loaded.model.training
    assert load_file(tmp_path / "model.safetensors")["embed_ln.weight"].dtype == dtype
    tolerance = 0 if dtype == torch.float32 else 1e-3
    for name, value in control.model.state_dict().items():
        assert (loaded.model.state_dict()[name] - value).abs().max() <= tolerance
    torch.testing.assert_close(loaded.state_mean, control.state_mean, rtol=0, atol=0)
    torch.testing.assert_close(loaded.state_std, control.state_std, rtol=0, atol=0)
    for name in ("target_returns", "env", "quality", "context", "scale", "data"):
        assert getattr(loaded, name) == getattr(control, name)


def test_saved_files_load_with_transformers_alone(tmp_path):
    control = control_model()
    save_control_model(control, tmp_path)
    model = DecisionTransformerModel.from_pretrained(tmp_path)
    assert torch.equal(model.embed_state.weight, control.model.embed_state.weight)
    assert json.loads((tmp_path / "config.json").read_text())["bos_token_id"] is None


def test_a_pickled_state_dict_is_read_without_running_code(tmp_path):
    control = control_model()
    save_control_model(control, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(control.model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = load_control_model(tmp_path)
    assert torch.equal(loaded.model.embed_state.weight, control.model.embed_state.weight)


class Code:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    folder, marker = tmp_path / "model", tmp_path / "ran"
    save_control_model(control_model(), folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Code(marker)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"would run code.*ask its author for model.safetensors"):
        load_control_model(folder)
    assert not marker.exists()


@pytest.fixture
def folder(tmp_path):
    save_control_model(control_model(), tmp_path)
    return tmp_path


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        load_control_model(folder)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_cut_weights(folder, size):
    os.truncate(folder / "model.safetensors", size)
    with pytest.raises(UserError, match="are cut or damaged; download or save"):
        load_control_model(folder)


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_of_other_shapes(folder):
    change_weights(folder, lambda w: w.update({"embed_state.weight": torch.zeros(32, 17)}))
    with pytest.raises(UserError, match=r"do not have the shapes of config.json"):
        load_control_model(folder)


def test_weights_that_lack_one(folder):
    change_weights(folder, lambda w: w.pop("encoder.h.1.ln_1.bias"))
    with pytest.raises(UserError, match=r"lack 'encoder\.h\.1\.ln_1\.bias'"):
        load_control_model(folder)


def edit_json(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_statistics_of_another_environment(folder):
    edit_json(folder / "control.json", state_mean=[0.0] * 17)
    with pytest.raises(UserError, match=r"state_mean has 17 numbers but .* state dimension is 11"):
        load_control_model(folder)


def test_control_json_missing_broken_or_incomplete(folder):
    edit_json(folder / "control.json", scale=None)
    with pytest.raises(UserError, match="has no entry 'scale'"):
        load_control_model(folder)
    edit_json(folder / "control.json", scale="much")
    with pytest.raises(UserError, match=r"control\.json is not usable"):
        load_control_model(folder)
    (folder / "control.json").write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        load_control_model(folder)


def test_another_kind_of_model(folder):
    edit_json(folder / "config.json", model_type="llama")
    with pytest.raises(UserError, match=r"is a language model \(llama\), not a Decision"):
        load_control_model(folder)


def test_unknown_names():
    with pytest.raises(UserError, match="unknown model"):
        load_control_model("decision-transformer-hoper-mixed")
    with pytest.raises(UserError, match=r"there is no folder ./no/such/folder; check the path"):
        load_control_model("./no/such/folder")


def test_a_repository_that_cannot_be_reached():
    with pytest.raises(UserError, match="could not be fetched from the Hugging Face Hub"):
        load_control_model("nobody/no-such-decision-transformer")


@pytest.fixture
def hub(monkeypatch, folder):
    """The Hub, on which every repository is the folder; what it was asked for."""
    import huggingface_hub

    asked = {}

    def download(repo, allow_patterns):
        asked[repo] = allow_patterns
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file: folder / file)
    return asked


def test_a_repository_in_the_local_cache(hub):
    assert load_control_model("someone/hopper").env == "hopper"
    assert "control.json" in hub["someone/hopper"]


def test_the_nine_published_models_bring_their_statistics(hub, folder):
    assert len(published_models()) == 9
    for name, (env, quality) in published_models().items():
        statistics = d4rl_statistics(env, quality)
        size = {"hopper": 11, "halfcheetah": 17, "walker2d": 17}[env]
        assert len(statistics["state_mean"]) == len(statistics["state_std"]) == size
        assert all(value > 0 for value in statistics["state_std"])
        assert name.endswith(f"-{env}-{quality}")
    (folder / "control.json").unlink()
    control = load_control_model("edbeeching/decision-transformer-gym-hopper-medium-replay")
    assert control.state_std[-1] == pytest.approx(5.108601)
    assert control.target_returns == (3600.0, 1800.0)
    assert (control.quality, control.context) == ("medium-replay", 20)
    with pytest.raises(UserError, match="trained on medium data, not on expert; leave --quality"):
        load_control_model("edbeeching/decision-transformer-gym-hopper-medium", quality="expert")


@pytest.fixture
def bare(folder):
    """A folder without control.json."""
    (folder / "control.json").unlink()
    return folder


def statistics_file(folder, name="statistics.json", **entries):
    content = {"state_mean": [0.5] * 11, "state_std": [2.0] * 11, **entries}
    if name.endswith(".npz"):
        np.savez(folder / name, **content)
    else:
        (folder / name).write_text(json.dumps(content))
    return folder / name


def test_a_folder_without_control_json_says_what_is_missing_and_how_to_give_it(bare):
    sentence = r"no control\.json, which says .*; give them with --state-statistics FILE and --env"
    for given in ({}, {"env": "hopper"}, {"quality": "medium"}):
        with pytest.raises(UserError, match=sentence):
            load_control_model(bare, **given)


@pytest.mark.parametrize("name", ["statistics.json", "statistics.npz"])
def test_statistics_in_a_file(bare, name):
    control = load_control_model(bare, "Hopper-v4", statistics=statistics_file(bare, name))
    assert (control.state_mean[0], control.state_std[0]) == (0.5, 2.0)
    assert (control.env, control.quality, control.context) == ("hopper", "unknown", 20)
    assert (control.target_returns, control.scale) == ((3600.0, 1800.0), 1000.0)
    told = statistics_file(
        bare, name, env="hopper", context=5, scale=100.0, target_returns=[70.0], quality="mine"
    )
    control = load_control_model(bare, statistics=told)
    assert (control.env, control.quality, control.context) == ("hopper", "mine", 5)
    assert (control.target_returns, control.scale) == ((70.0,), 100.0)


def test_d4rls_statistics_are_known_by_environment_and_quality(bare):
    control = load_control_model(bare, "hopper", "medium-replay")
    assert control.state_std[-1] == pytest.approx(5.108601)
    assert (control.env, control.quality) == ("hopper", "medium-replay")
    with pytest.raises(UserError, match=r"of hopper-mixed are not known \(known: hopper-medium, "):
        load_control_model(bare, "hopper", "mixed")
    with pytest.raises(UserError, match=r"state_mean has 17 numbers but .* dimension is 11"):
        load_control_model(bare, "walker2d", "medium")


@pytest.mark.parametrize(
    ("entries", "given", "sentence"),
    [
        ({}, {}, r"statistics\.json names no environment; add an entry env, or give --env"),
        ({}, {"env": "Pendulum-v1"}, "has no target_returns, and Pendulum-v1 has none of its own"),
        ({"env": "hopper"}, {"env": "walker2d"}, "was trained for hopper, not for walker2d; leave"),
        ({"target_return": [1.0]}, {"env": "hopper"}, "'target_return'; did you mean target_ret"),
        ({"state_std": [0.0] * 11}, {"env": "hopper"}, r"state_std has 0\.0, by which no state"),
        ({"scale": "much"}, {"env": "hopper"}, r"statistics\.json is not usable"),
        ({}, {"env": "halfcheetah"}, "reads states of 11 numbers .* but halfcheetah has 17 and 6"),
    ],
)
def test_statistics_that_cannot_be_used(bare, entries, given, sentence):
    with pytest.raises(UserError, match=sentence):
        load_control_model(bare, **given, statistics=statistics_file(bare, **entries))


def test_files_that_hold_no_statistics(bare, tmp_path):
    (tmp_path / "other.json").write_text('{"state_mean": [1.0]}')
    (tmp_path / "other.npz").write_text("no archive")
    for name, sentence in (
        ("other.json", "has no entry 'state_std'; it needs state_mean and"),
        ("other.npz", r"other\.npz is no whole archive"),
        ("none.npz", r"none\.npz cannot be read"),
        ("none.json", r"cannot read .*none\.json"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_control_model(bare, "hopper", statistics=tmp_path / name)


def test_what_contradicts_the_models_own_file_is_refused(folder):
    assert load_control_model(folder, "Hopper-v5", "mixed").env == "hopper"
    for given, sentence in (
        ({"env": "walker2d"}, "was trained for hopper, not for walker2d; leave --env out"),
        ({"quality": "expert"}, "was trained on mixed data, not on expert; leave --quality out"),
        ({"env": "hopper-medium-v2"}, "on mixed data, not on medium; leave the data of --env out"),
        ({"statistics": folder / "x.json"}, "own state statistics; leave --state-statistics out"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_control_model(folder, **given)


def test_the_short_name_is_the_shipped_one_for_environment_and_quality():
    assert load_control_model("decision-transformer").quality == "mixed"
    control = load_control_model("decision-transformer", "walker2d", "medium")
    assert (control.env, control.quality) == ("walker2d", "medium")
    assert load_control_model("decision-transformer", "hopper-expert-v2").quality == "expert"
    with pytest.raises(UserError, match="--env hopper-medium-v2 is of medium data, not of expert;"):
        load_control_model("decision-transformer", "hopper-medium-v2", "expert")
    with pytest.raises(UserError, match="no Decision Transformer ships for gates4; name"):
        load_control_model("decision-transformer", "gates4")
    assert load_control_model("decision-transformer", "repeat-previous").env == "repeat-previous"
    with pytest.raises(UserError, match=r"of quality fast for hopper is shipped \(shipped:"):
        load_control_model("decision-transformer", "hopper", "fast")
    with pytest.raises(UserError, match=r"no Decision Transformer ships for Pendulum-v1; name"):
        load_control_model("decision-transformer", "Pendulum-v1")


def test_any_environment_is_saved_loaded_and_rolled_out(tmp_path):
    made = replace(
        control_model(state_dim=3, act_dim=1), env="Pendulum-v1", target_returns=(-200.0,)
    )
    save_control_model(made, tmp_path)
    control = load_control_model(tmp_path, "Pendulum-v1")
    assert control.env == "Pendulum-v1"
    envs = make_envs(control.env, 2)
    played, _ = rollout(dynamic(control), envs, [0, 1], -200.0, 1000.0, max_steps=10)
    assert [episode.length for episode in played] == [10, 10]
    assert all(episode.failure is None and episode.episode_return < 0 for episode in played)


@pytest.mark.parametrize("name", shipped_models("control"))
def test_shipped_models_load_and_move(name):
    control = load_control_model(name)
    assert control.env in name
    # of an environment's own expert there is one kind of data
    assert control.quality == "scripted" or control.quality in name
    assert all(len(digest) == 64 for digest in control.data.values())
    [env] = make_envs(control.env, 1)
    seeds = [500]
    [episode], _ = rollout(
        WindowController(control), [env], seeds, control.target_returns[0], control.scale, 60
    )
    # where something is to be reached, an episode may be shorter
    assert episode.failure is None and (episode.length == 60 or episode.success is not None)
    assert not Path(next(iter(control.data))).is_absolute()


#: What control.json cannot say of a model, and the words for it.
UNUSABLE = {
    "state_std": ([0.0] * 11, "state_std has 0"),
    "state_mean": ([1e300] * 11, "state_mean holds NaN or infinity"),
    "target_returns": ([], "target returns are"),
    "context": (0, "context is 0"),
    "scale": (0.0, "scale is 0"),
    "delayed": ("no", "is not usable .delayed is 'no'"),
    "quality": (None, "is not usable .quality is None"),
    "env": (["hopper"], "is not usable .env is"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_facts_that_no_model_has(tmp_path, name):
    value, sentence = UNUSABLE[name]
    folder = save_tiny_control(tmp_path)
    told = json.loads((folder / "control.json").read_text())
    (folder / "control.json").write_text(json.dumps(told | {name: value}))
    with pytest.raises(UserError, match=sentence):
        load_control_model(folder)


@pytest.mark.parametrize("value", [[[0.0]] * 11, "x", {"a": 1}, [None] * 11, True])
def test_statistics_that_are_no_list_of_numbers(tmp_path, value):
    folder = save_tiny_control(tmp_path)
    told = json.loads((folder / "control.json").read_text())
    (folder / "control.json").write_text(json.dumps(told | {"state_mean": value}))
    with pytest.raises(UserError, match=r"control\.json is not usable"):
        load_control_model(folder)


def test_a_file_does_not_import_from_the_folder_one_stands_in(tmp_path, monkeypatch):
    folder = save_tiny_control(tmp_path / "model")
    told = json.loads((folder / "control.json").read_text())
    (folder / "control.json").write_text(json.dumps(told | {"env": "brought:Env-v0"}))
    (tmp_path / "brought.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="names 'brought:Env-v0', and no module brought is install"):
        load_control_model(folder)
    assert not (tmp_path / "ran").exists()


def test_archives_that_are_pickles_or_bombs_or_other(tmp_path):
    good, path = {"state_mean": np.zeros(11), "state_std": np.ones(11)}, tmp_path / "some.npz"
    for more in (np.array([print], dtype=object), np.array({"a": 1})):
        np.savez(path, **good, env=more)
        with pytest.raises(UserError, match="is no whole archive") as refused:
            read_statistics(path)
        assert "allow_pickle" not in str(refused.value)
    np.savez_compressed(path, **good, scale=np.zeros(10**6))
    with pytest.raises(UserError, match=r"unpacks to 8,\d+,\d+ bytes"):
        read_statistics(path)
    np.savez(path, **good)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match="is no whole archive"):
        read_statistics(path)
