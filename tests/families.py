"""Tiny random models of every family of transformers that has a causal language model.
"""
from collections.abc import Iterator
from typing import Any
import torch, transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

SMALL: dict[str, Any] = {}
for names, size in {
    "vocab_size vocab_size_per_layer_input": 99,
    "hidden_size n_embd d_model dim model_dim embedding_size word_embed_proj_dim q_lora_rank_ attention_hidden_size": 64,
    "intermediate_size n_inner ffn_dim d_ff ffn_hidden_size dim_ff decoder_ffn_dim encoder_ffn_dim moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size moe_shared_expert_intermediate_size mlp_hidden_size": 96,
    "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers": 4,
    "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads": 4,
    "num_key_value_heads num_kv_heads": 2,
    "head_dim": 16,
    "num_experts num_local_experts n_routed_experts moe_num_experts": 4,
    "num_experts_per_tok moe_topk moe_k num_experts_per_token": 2,
    "n_group topk_group num_expert_groups": 1,
    "n_shared_experts num_shared_experts": 1,
    "max_position_embeddings n_positions max_seq_len n_ctx seq_length": 512,
    "initializer_range init_std": 0.15,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "is_decoder": True,
    "mamba_d_state mamba_n_heads": 8, "mamba_d_head": 16,
}.items():
    SMALL.update(dict.fromkeys(names.split(), size))

EXTRA: dict[str, dict[str, Any]] = {}

def config_of(family):
    cls = getattr(transformers, FAMILIES[family])
    config_class = cls.config_class
    return cls, small(config_class, EXTRA.get(family, {}))

def small(config_class, extra):
    # What a configuration has, by itself or under another name.
    names = set(config_class().to_dict()) | set(config_class.attribute_map)
    settings = {k: v for k, v in SMALL.items() if k in names}
    for name, sub in config_class.sub_configs.items():
        if isinstance(sub, type) and sub.__name__ != "AutoConfig":
            settings[name] = small(sub, extra.get(name, {})).to_dict()
    return config_class(**{**settings, **extra})

def build(family):
    cls, config = config_of(family)
    with torch.device("meta"):
        n = sum(p.numel() for p in cls(config).parameters())
    assert n < 3e7, f"{n} parameters"
    torch.manual_seed(0)
    return cls(config).eval()
