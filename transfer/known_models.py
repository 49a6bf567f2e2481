"""Sizes of published models whose caches are planned without a download, and their sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

_LLAMA_3 = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 131072}
_LLAMA_3_PAPER = "arXiv 2407.21783, table 3"
_GEMMA_3 = "github.com/google-deepmind/gemma, gemma/gm/nn/_gemma.py"


@dataclass(frozen=True)
class Sizes:
    """A model's configuration, as far as its cache depends on it.

    Attributes:
        kind: `model_type` in transformers.
        source: where the sizes are published. What `settings` leaves out is the default of that
            kind in transformers 5.24.
        settings: of the configuration.
    """

    kind: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> PreTrainedConfig:
        """The text decoder's configuration, in bfloat16 as all of these are published."""
        return AutoConfig.for_model(self.kind, **self.settings, dtype=torch.bfloat16)


def _llama_3(hidden: int, layers: int, heads: int, source: str = _LLAMA_3_PAPER) -> Sizes:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    return Sizes("llama", source, {**_LLAMA_3, **sizes})


def _gemma_3(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, window: int
) -> Sizes:
    return Sizes(
        "gemma3_text",
        _GEMMA_3,
        {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "sliding_window": window,
            "layer_types": [
                "sliding_attention" if (index + 1) % 6 else "full_attention"
                for index in range(layers)
            ],
        },
    )


KNOWN: dict[str, Sizes] = {
    "llama-3-1b": _llama_3(2048, 16, 32, "config.json of meta-llama/Llama-3.2-1B"),
    "llama-3-8b": _llama_3(4096, 32, 32),
    "llama-3-70b": _llama_3(8192, 80, 64),
    "llama-3-405b": _llama_3(16384, 126, 128),
    "mistral-7b": Sizes(
        "mistral",
        "model card of mistralai/Mistral-7B-Instruct-v0.2: no sliding window from v0.2 on",
        {"sliding_window": None},
    ),
    "mistral-7b-v0.1": Sizes("mistral", "arXiv 2310.06825, table 1"),
    "gemma-3-1b": _gemma_3(1152, 26, 4, 1, 256, 512),
    "gemma-3-4b": _gemma_3(2560, 34, 8, 4, 256, 1024),
    "gemma-3-27b": _gemma_3(5376, 62, 32, 16, 128, 1024),
    "llama-4-scout": Sizes(
        "llama4_text",
        "defaults of Llama4TextConfig in transformers; 16 experts",
        {"num_local_experts": 16},
    ),
    "bamba-9b": Sizes(
        "bamba",
        "github.com/huggingface/blog, bamba.md: 3 of 32 layers with attention, states of 64 x 128",
        {"attn_layer_indices": [9, 18, 27], "mamba_d_state": 128},
    ),
    "falcon-h1-7b": Sizes(
        "falcon_h1",
        "github.com/huggingface/transformers, docs/source/en/model_doc/falcon_h1.md",
        {
            "hidden_size": 3072,
            "num_hidden_layers": 44,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "mamba_d_ssm": 24 * 128,
            "mamba_n_heads": 24,
            "mamba_d_head": 128,
            "mamba_d_state": 256,
        },
    ),
    "qwen3-next-80b": Sizes("qwen3_next", "defaults of Qwen3NextConfig in transformers"),
    "deepseek-v3": Sizes("deepseek_v3", "arXiv 2412.19437, section 4.2"),
}
