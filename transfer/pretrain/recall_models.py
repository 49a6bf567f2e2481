"""The three small language models that ship: two Llamas and a GPT-2."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from transfer.tasks.symbols import BOS, PAD, VOCABULARY

#: Positions of GPT-2's table; the Llamas' rotary positions are trained to 1024 and go on.
POSITIONS = 1088
_TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": BOS, "eos_token_id": None, "pad_token_id": PAD}
_DEVIATION = 0.05


@dataclass(frozen=True)
class Architecture:
    """A model to train.

    Attributes:
        name: of the checkpoint.
        build: makes it, with weights of the global generator.
        guided_layer: layer of the heads whose attention is guided at first.
        guided_heads: those heads.
        learned_positions: whether positions are a table, each row of which needs training.
    """

    name: str
    build: Callable[[], PreTrainedModel]
    guided_layer: int
    guided_heads: tuple[int, ...]
    learned_positions: bool = False

    def new_model(self, seed: int) -> PreTrainedModel:
        """Random weights of a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()


def _llama(layers: int, width: int, heads: int, kv_heads: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=_DEVIATION,
        **_TOKENS,
    )
    return LlamaForCausalLM(config)


def _gpt2(layers: int, width: int, heads: int) -> GPT2LMHeadModel:
    config = GPT2Config(
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=POSITIONS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=_DEVIATION,
        **_TOKENS,
    )
    return GPT2LMHeadModel(config)


ARCHITECTURES = {
    "llama": Architecture("llama-recall", lambda: _llama(3, 64, 4, 2), 1, (0,)),
    "llama-wide": Architecture("llama-recall-wide", lambda: _llama(4, 96, 6, 6), 2, (0, 1)),
    "gpt2": Architecture("gpt2-recall", lambda: _gpt2(3, 64, 4), 1, (0,), True),
}
