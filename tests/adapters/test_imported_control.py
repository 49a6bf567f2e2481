"""Decision Transformers of others' code do, converted, what their authors' forward does.

The two forwards are written here anew, from what the authors' code computes.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear, relu, softmax
from transformers import DecisionTransformerConfig, DecisionTransformerModel, DynamicCache

from transfer.adapters.decision_transformer import (
    CachedController,
    WindowController,
    load_control_model,
    save_control_model,
)
from transfer.adapters.imported_control import import_control, is_control
from transfer.adapters.published_control import d4rl_statistics
from transfer.attachment.check import check_adapter
from transfer.cli import main
from transfer.envs.environment import make_envs
from transfer.envs.rollout import rollout
from transfer.errors import UserError

NAMM = Path(__file__).parents[1] / "data/ckpt_hidden1.pt"
STATES, ACTIONS, WIDTH, LAYERS, CONTEXT, TIMES = 17, 6, 24, 3, 5, 50


def drawn(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def rest(returns, states=STATES, actions=ACTIONS):
    sizes = {"embed_state": (WIDTH, states), "embed_action": (WIDTH, actions),
             f"embed_{returns}": (WIDTH, 1), f"predict_{returns}": (1, WIDTH),
             "predict_state": (states, WIDTH), "predict_action.0": (actions, WIDTH)}  # fmt: skip
    shapes = {f"{name}.weight": size for name, size in sizes.items()}
    shapes |= {f"{name}.bias": size[:1] for name, size in sizes.items()}
    shapes |= {"embed_ln.weight": (WIDTH,), "embed_ln.bias": (WIDTH,)}
    return shapes | {"embed_timestep.weight": (TIMES, WIDTH)}


def min_state(**sizes):
    """As min-decision-transformer saves it."""
    shapes = rest("rtg", **sizes)
    linears = {f"attention.{part}": (WIDTH, WIDTH) for part in ("q_net", "k_net", "v_net")}
    linears |= {"attention.proj_net": (WIDTH, WIDTH)}
    linears |= {"mlp.0": (4 * WIDTH, WIDTH), "mlp.2": (WIDTH, 4 * WIDTH)}
    linears |= {"ln1": (WIDTH,), "ln2": (WIDTH,)}
    for layer in range(LAYERS):
        for name, size in linears.items():
            shapes[f"transformer.{layer}.{name}.weight"] = size
            shapes[f"transformer.{layer}.{name}.bias"] = size[:1]
    masks = {
        f"transformer.{layer}.attention.mask": torch.ones(1, 1, 3 * CONTEXT, 3 * CONTEXT).tril()
        for layer in range(LAYERS)
    }
    return drawn(shapes) | masks


def original_state(**sizes):
    """As kzl/decision-transformer saves it."""
    shapes = rest("return", **sizes)
    inner = {"attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH),
             "mlp.c_fc": (WIDTH, 4 * WIDTH), "mlp.c_proj": (4 * WIDTH, WIDTH),
             "ln_1": (WIDTH,), "ln_2": (WIDTH,)}  # fmt: skip
    for layer in range(LAYERS):
        for name, size in inner.items():
            shapes[f"transformer.h.{layer}.{name}.weight"] = size
            shapes[f"transformer.h.{layer}.{name}.bias"] = size[-1:]
    shapes |= {"transformer.ln_f.weight": (WIDTH,), "transformer.ln_f.bias": (WIDTH,)}
    buffers = {"transformer.wte.weight": torch.randn(1, WIDTH)}
    for layer in range(LAYERS):
        buffers[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril().byte()
        buffers[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return drawn(shapes) | buffers


class Forward:
    """Either author's forward, on a state dict as it was saved."""

    def __init__(self, state, heads):
        self.state, self.heads = state, heads

    def linear(self, name, values):
        return linear(values, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name, values):
        return layer_norm(
            values, (WIDTH,), self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        )

    def attend(self, queries, keys, values):
        batch, tokens, _ = queries.shape
        split = (batch, tokens, self.heads, WIDTH // self.heads)
        queries, keys, values = (one.view(split).transpose(1, 2) for one in (queries, keys, values))
        weights = queries @ keys.transpose(2, 3) / math.sqrt(split[-1])
        seen = torch.ones(tokens, tokens).tril().bool()
        attended = softmax(weights.masked_fill(~seen, -math.inf), -1) @ values
        return attended.transpose(1, 2).reshape(batch, tokens, WIDTH)

    def block(self, layer, hidden):
        if "transformer.0.ln1.weight" not in self.state:
            return self.original_block(f"transformer.h.{layer}", hidden)
        at = f"transformer.{layer}"
        parts = (self.linear(f"{at}.attention.{part}_net", hidden) for part in "qkv")
        hidden = hidden + self.linear(f"{at}.attention.proj_net", self.attend(*parts))
        hidden = self.norm(f"{at}.ln1", hidden)
        inner = gelu(self.linear(f"{at}.mlp.0", hidden))
        return self.norm(f"{at}.ln2", hidden + self.linear(f"{at}.mlp.2", inner))

    def original_block(self, at, hidden):
        def conv(name, values):
            return values @ self.state[f"{at}.{name}.weight"] + self.state[f"{at}.{name}.bias"]

        parts = conv("attn.c_attn", self.norm(f"{at}.ln_1", hidden)).split(WIDTH, dim=2)
        hidden = hidden + conv("attn.c_proj", self.attend(*parts))
        return hidden + conv("mlp.c_proj", relu(conv("mlp.c_fc", self.norm(f"{at}.ln_2", hidden))))

    def __call__(self, states, actions, returns, times):
        later = self.state["embed_timestep.weight"][times]
        of_returns = "rtg" if "embed_rtg.weight" in self.state else "return"
        tokens = [
            self.linear(f"embed_{name}", values) + later
            for name, values in ((of_returns, returns), ("state", states), ("action", actions))
        ]
        hidden = self.norm("embed_ln", torch.stack(tokens, 2).flatten(1, 2))
        for layer in range(LAYERS):
            hidden = self.block(layer, hidden)
        if "transformer.ln_f.weight" in self.state:
            hidden = self.norm("transformer.ln_f", hidden)
        hidden = hidden.unflatten(1, (-1, 3))
        return (
            self.linear("predict_state", hidden[:, :, 2]),
            torch.tanh(self.linear("predict_action.0", hidden[:, :, 1])),
            self.linear(f"predict_{of_returns}", hidden[:, :, 2]),
        )


def saved(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    return tmp_path / "model.pt"


STATES_OF = {"min": min_state, "original": original_state}


@pytest.mark.parametrize("layout", STATES_OF)
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("wrapped", ["", "module.", "_orig_mod.module."])
def test_the_converted_model_computes_what_its_authors_does(tmp_path, layout, heads, wrapped):
    state = STATES_OF[layout]()
    told = {"model_state_dict": {f"{wrapped}{k}": v for k, v in state.items()}, "step": 3}
    path = saved(tmp_path, told if wrapped else state)
    control = import_control(path, env="halfcheetah", quality="medium", heads=heads)
    save_control_model(control, tmp_path / "out")
    again = load_control_model(tmp_path / "out")
    generator = torch.Generator().manual_seed(1)
    states, actions, returns = (
        torch.randn(2, CONTEXT, size, generator=generator) for size in (STATES, ACTIONS, 1)
    )
    times = torch.arange(7, 7 + CONTEXT).expand(2, -1)
    with torch.no_grad():
        theirs = Forward(state, heads)(states, actions, returns, times)
        for one in (control, again):
            ours = one.model(
                states=states, actions=actions, returns_to_go=returns, timesteps=times,
                attention_mask=torch.ones(2, CONTEXT),
            )  # fmt: skip
            for mine, expected in zip(
                (ours.state_preds, ours.action_preds, ours.return_preds), theirs
            ):
                torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)
    assert again.context == (CONTEXT if layout == "min" else 20)
    assert again.model.config.max_ep_len == TIMES
    statistics = d4rl_statistics("halfcheetah", "medium")
    np.testing.assert_allclose(again.state_mean, statistics["state_mean"], rtol=1e-6)
    assert (again.env, again.quality, again.target_returns) == (
        "halfcheetah", "medium", (12000.0, 6000.0),
    )  # fmt: skip


def test_the_layout_of_transformers_keeps_its_positions(tmp_path):
    config = DecisionTransformerConfig(
        state_dim=STATES, act_dim=ACTIONS, hidden_size=WIDTH, n_layer=2, max_ep_len=TIMES,
        initializer_range=0.5, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = DecisionTransformerModel(config).eval()
    assert model.encoder.wpe.weight.shape == (1024, WIDTH) and model.encoder.wpe.weight[0].any()
    path = saved(tmp_path, model.state_dict())
    control = import_control(path, env="walker2d", quality="medium-replay")
    given = {"states": torch.randn(1, 4, STATES), "actions": torch.randn(1, 4, ACTIONS),
             "returns_to_go": torch.ones(1, 4, 1), "timesteps": torch.arange(4)[None]}  # fmt: skip
    with torch.no_grad():
        theirs, ours = model(**given).action_preds, control.model(**given).action_preds
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_both_ways_of_stepping_agree_and_the_cache_can_be_pruned(tmp_path):
    path = saved(tmp_path, min_state())
    control = import_control(path, env="halfcheetah", quality="expert", heads=2)
    check_adapter(control.model)
    played = [
        rollout(controller, make_envs("halfcheetah", 2), [0, 1], 6000.0, 1000.0, max_steps=CONTEXT)[
            0
        ]
        for controller in (
            WindowController(control),
            CachedController(control, lambda: DynamicCache(config=control.model.config)),
        )
    ]
    for window, cached in zip(*played):
        assert window.episode_return == pytest.approx(cached.episode_return, abs=1e-3)


def test_the_command_tells_the_kinds_apart(tmp_path, capsys):
    path, out = saved(tmp_path, original_state()), tmp_path / "out"
    words = ["import", str(path), str(out), "--env", "walker2d", "--quality", "medium"]
    assert main(words) == 0
    assert "3 layers, 24 wide, 1 heads, relu, a context of 20 steps, for walker2d" in (
        capsys.readouterr().out
    )
    assert load_control_model(out).quality == "medium"
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pt")
    assert main(["import", str(tmp_path / "other.pt"), str(out)]) == 2
    assert "has no evolution_state and no embed_timestep.weight" in capsys.readouterr().err
    assert main(["import", str(NAMM), str(out), "--heads", "2"]) == 2
    assert "--heads is of a Decision Transformer" in capsys.readouterr().err


def without(name):
    return lambda state: state.pop(name)


def change(name, how):
    return lambda state: state.update({name: how(state[name])})


def put(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("layout", "done", "sentence"),
    [
        ("min", without("embed_state.weight"), r"has no 'embed_state\.weight'"),
        (
            "min",
            without("transformer.1.attention.k_net.weight"),
            r"no 'encoder\.h\.1\.attn\.c_attn",
        ),
        ("min", without("transformer.1.mlp.0.bias"), r"has no 'encoder\.h\.1\.mlp\.c_fc\.bias'"),
        ("original", without("transformer.ln_f.weight"), r"has no 'encoder\.ln_f\.weight'"),
        ("original", put("blocks.0.norm1.weight", torch.ones(3)), "is in neither known layout"),
        (
            "original",
            put("transformer.h.9.ln_1.bias", torch.ones(WIDTH)),
            r"encoder\.h\.3\.|h\.9\.",
        ),
        ("min", put("embed_ln.bias", torch.ones(3)), r"'embed_ln\.bias' has shape \(3,\) instead"),
        ("min", put("embed_action.weight", torch.ones(6)), "'embed_action.weight' is no matrix"),
        ("min", put("transformer.0.ln1.weight", torch.full((WIDTH,), math.nan)), "holds NaN"),
        ("min", put("embed_ln.bias", torch.ones(1).expand(WIDTH)), "or fewer numbers than that"),
        ("min", put("transformer.0.attention.q_net.bias", torch.ones(3)), "has no 'encoder"),
        ("min", change("embed_ln.bias", torch.Tensor.to_sparse), "laid out as torch.sparse_coo"),
        ("min", change("transformer.0.ln1.bias", torch.Tensor.to_sparse), "ln1.bias' .*sparse_coo"),
        (
            "min",
            change("transformer.0.attention.q_net.weight", torch.Tensor.to_sparse),
            "sparse_coo",
        ),
        ("original", change("embed_ln.bias", lambda one: one.to("meta")), "is of .* on meta"),
        ("original", change("embed_timestep.weight", lambda one: one.to("meta")), "on meta"),
        ("original", change("embed_ln.bias", lambda one: one + 1j), "is of torch.complex64"),
        ("original", change("embed_ln.bias", lambda one: one > 0), "is of torch.bool"),
        ("min", change("transformer.1.mlp.0.weight", torch.Tensor.char), "is of torch.int8"),
        ("min", change("embed_ln.bias", lambda one: one.double() * 1e300), "holds NaN or infinity"),
    ],
)
def test_another_layout_is_a_sentence(tmp_path, layout, done, sentence):
    state = STATES_OF[layout]()
    done(state)
    with pytest.raises(UserError, match=sentence):
        import_control(saved(tmp_path, state), env="halfcheetah", quality="medium")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, r"model\.pt has no control\.json, which says the environment"),
        ({"env": "halfcheetah"}, "give them with --state-statistics"),
        ({"env": "hopper", "quality": "medium"}, "model reads states of 17 numbers|has 11 numbers"),
        ({"env": "halfcheetah", "quality": "random"}, "halfcheetah-random are not known"),
        (
            {"env": "halfcheetah", "quality": "medium", "heads": 5},
            "--heads is 5; use a divisor of 24",
        ),
        ({"env": "halfcheetah", "quality": "medium", "heads": 0}, "--heads is 0; use a divisor"),
    ],
)
def test_what_is_not_said_is_asked_for(tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        import_control(saved(tmp_path, min_state()), **arguments)


def test_statistics_from_a_file(tmp_path):
    statistics = tmp_path / "statistics.npz"
    np.savez(statistics, state_mean=np.arange(17.0), state_std=np.ones(17), env="walker2d")
    control = import_control(saved(tmp_path, min_state()), statistics=statistics)
    assert control.state_mean.tolist() == list(range(17)) and control.env == "walker2d"


def test_only_state_dicts_with_time_steps_are_decision_transformers():
    assert is_control(min_state()) and is_control(
        {"optimizer": {"a": torch.ones(1)}, "model": original_state()}
    )
    assert not any(map(is_control, [{}, [], None, {"a": {"b": 1}}, {"evolution_state": {}}]))
