"""A Decision Transformer of random weights that walks on, for environments with choices."""

import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer.adapters.control_model import ControlModel
from transfer.envs.environment import environment

ENV = "tmaze:length=24"


def random_model(env: str) -> ControlModel:
    found = environment(env)
    states, actions = found.sizes
    torch.manual_seed(1)
    config = DecisionTransformerConfig(
        state_dim=states, act_dim=actions, hidden_size=32, n_layer=2, n_head=2, max_ep_len=100,
        n_positions=4, action_tanh=False, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = DecisionTransformerModel(config).eval()
    # Forward, always: corridors are walked to their end.
    model.predict_action[0].weight.data.zero_()
    model.predict_action[0].bias.data = torch.tensor([1.0, 0.5, 0.0][:actions])
    mean, std = torch.zeros(states), torch.ones(states)
    return ControlModel(model, mean, std, (1.0,), env, "random", choices=found.choices, scale=1.0)
