"""Tiny random models and an uneven eviction rule, shared by the tests."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import (
    DecisionTransformerConfig,
    DecisionTransformerModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from transfer.cache.policy import Policy


def llama(kv_heads: int = 2, layers: int = 3, vocabulary: int = 97, **changes) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
        **changes,
    )
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=97,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=512,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def decision_transformer(heads: int = 2, **changes) -> DecisionTransformerModel:
    config = DecisionTransformerConfig(
        state_dim=11,
        act_dim=3,
        hidden_size=64,
        n_layer=3,
        n_head=heads,
        n_positions=4,
        max_ep_len=1000,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        **changes,
    )
    return DecisionTransformerModel(config).eval()


@dataclass(frozen=True)
class Uneven(Policy):
    """Keeps a fixed, different share of the positions in every head; more in later heads."""

    name: ClassVar[str] = "uneven"
    threshold: ClassVar[float | None] = 0.0

    def score(self, window, state):
        head = torch.arange(window.positions.shape[1])[None, :, None]
        rest = (window.positions * 7 + head * 3 + window.layer * 5) % 11
        return torch.where(rest <= (2 + 3 * head) % 10, 1.0, -1.0), state
