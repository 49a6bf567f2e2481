"""Small language models with random weights: a Llama or a GPT-2."""

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from transfer.pretrain.recall.config import Architecture
from transfer.tasks.symbols import BOS, PAD, VOCABULARY

#: Positions of GPT-2's table; the Llamas' rotary positions are trained to 1024 and go on.
POSITIONS = 1088
_TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": BOS, "eos_token_id": None, "pad_token_id": PAD}
_DEVIATION = 0.05


def new_model(shape: Architecture, seed: int) -> PreTrainedModel:
    """Random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _gpt2(shape) if shape.kv_heads is None else _llama(shape)


def _llama(shape: Architecture) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=2 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=_DEVIATION,
        **_TOKENS,
    )
    return LlamaForCausalLM(config)


def _gpt2(shape: Architecture) -> GPT2LMHeadModel:
    config = GPT2Config(
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_positions=POSITIONS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=_DEVIATION,
        **_TOKENS,
    )
    return GPT2LMHeadModel(config)
