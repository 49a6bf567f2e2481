"""A random Decision Transformer for Hopper, which falls after 15 to 20 steps; shared by tests."""

from pathlib import Path

import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from transfer.adapters.decision_transformer import ControlModel, save_control_model


def save_tiny_control(folder: Path) -> Path:
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=11,
        act_dim=3,
        hidden_size=16,
        n_layer=2,
        n_head=2,
        max_ep_len=40,
        n_positions=4,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    control = ControlModel(
        model=DecisionTransformerModel(config).eval(),
        state_mean=torch.zeros(11),
        state_std=torch.ones(11),
        target_returns=(3600.0, 1800.0),
        env="hopper",
        quality="mixed",
        context=3,
    )
    save_control_model(control, folder)
    return folder
