"""Tiny random models of every causal language model in transformers, and what becomes of each.

So also of the video models that can be named.

    python tests/families.py

writes `docs/reference/support.md`. A family is made tiny by giving its configuration, and those
inside it, small sizes under all names that sizes have; the few that need more say it in `MORE`.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_video
import tiny_video_families
import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

from transfer import check_adapter
from transfer.errors import UserError
from transfer.files import replacing

TABLE = Path(__file__).parents[1] / "docs" / "reference" / "support.md"
LARGEST = 100_000_000
SIZES: dict[str, Any] = {
    name: size
    for names, size in {
        "vocab_size vocab_size_per_layer_input audio_vocab_size": 99,
        "hidden_size n_embd d_model dim embedding_size word_embed_proj_dim": 64,
        "intermediate_size n_inner ffn_dim d_ff ffn_hidden_size mlp_dim decoder_ffn_dim "
        "encoder_ffn_dim moe_intermediate_size expert_ffn_hidden_size "
        "shared_expert_intermediate_size moe_shared_expert_intermediate_size": 96,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers": 4,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads "
        "encoder_attention_heads": 4,
        "num_key_value_heads num_kv_heads": 2,
        "head_dim": 16,
        "num_experts num_local_experts n_routed_experts moe_num_experts": 4,
        "num_experts_per_tok moe_topk moe_k": 2,
        "n_group topk_group n_shared_experts num_shared_experts": 1,
        "max_position_embeddings n_positions n_ctx": 512,
        "sliding_window attention_chunk_size": 48,
        "image_size": 32,
        "mamba_d_state mamba_n_heads": 8,
        "mamba_d_head": 16,
        "initializer_range init_std": 0.15,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "is_decoder": True,
    }.items()
    for name in names.split()
}
_FULL = {"sliding_window": None}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2}
_RECURRENT = {"layer_types": ["linear_attention", "full_attention"] * 2}
_CONVOLVED = {"layer_types": ["conv", "full_attention"] * 2}
_HYBRID = {"layer_types": ["linear_attention", "hybrid"] * 2}
_WINDOWED = {"layer_types": ["hybrid_sliding", "hybrid"] * 2}
_LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
}
_CHOOSING = {
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 32,
    "indexer_compress_ratio": 4,
}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
_ROPES = {"sliding_attention": _ROPE, "full_attention": _ROPE}
#: What a family needs beside small sizes, to be built or to have layers that can be pruned.
MORE: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3], "mamba_chunk_size": 32},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {"rope_parameters": _ROPES},
    "deepseek_v32": _LATENT,
    "doge": _FULL,
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_chunk_size": 32},
    "gemma2": {"attn_logit_softcapping": None},
    "gemma3_text": _MIXED,
    "gemma3n_text": {**_MIXED, "num_kv_shared_layers": 2, "activation_sparsity_pattern": [0.0] * 4},
    "glm_moe_dsa": _LATENT,
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": _RECURRENT,
    "inkling2_loop_text": _WINDOWED,
    "inkling2_text": _WINDOWED,
    "inkling_text": _WINDOWED,
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "lfm2": _CONVOLVED,
    "lfm2_moe": _CONVOLVED,
    "mamba2": {"num_heads": 8},
    "ministral": _MIXED,
    "ministral3": _FULL,
    "mistral": _FULL,
    "mixtral": _FULL,
    "phi3": _FULL,
    "phi4_multimodal": _FULL,
    "phimoe": _FULL,
    "qwen4_exp_text": _CHOOSING,
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [16, 32]},
    "starcoder2": _FULL,
    "vaultgemma": {"attn_logit_softcapping": None},
    "xmod": {"default_language": "en_XX"},
    "zamba": _HYBRID,
    "zamba2": _HYBRID,
    "zaya": {"num_experts_per_tok": 1},
}
_ONE_SIZE = "frames of one size, so many tokens each"
_AXES = (
    "positions of three axes (time, row, column), which go on behind evictions and chunks; frames "
    "keep their shape within `max_pixels` of the processor's file, which decides how many tokens "
    "they are; two frames share a token, and a text between them stands behind both"
)
#: What is particular about the families of video models.
VIDEO = {
    "llava_next_video": _ONE_SIZE,
    "llava_onevision": f"{_ONE_SIZE}, and one ends the video",
    "qwen2_vl": _AXES,
    "qwen2_5_vl": f"{_AXES}; times are in seconds",
    "smolvlm": "SmolVLM2; frames are pictures, and the prompt says the second of each",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a family: exact, partly (exact, with only some layers pruned), refused, not
    built (and then why).
    """

    family: str
    verdict: str
    layers: str = ""
    why: str = ""


def build(family: str) -> PreTrainedModel:
    """A tiny random model, the same every time."""
    model_class = getattr(transformers, FAMILIES[family])
    config = _small(model_class.config_class, MORE.get(family, {}))
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in model_class(config).parameters())
    if parameters > LARGEST:
        raise ValueError(f"{parameters / 1e6:.0f} million parameters at least")
    torch.manual_seed(0)
    return model_class(config).eval()


def _small(config_class: type[PreTrainedConfig], more: dict[str, Any]) -> PreTrainedConfig:
    stock = config_class()
    names = {*stock.to_dict(), *config_class.attribute_map}
    inner = {name: getattr(stock, name, None) for name in config_class.sub_configs}
    settings = {name: size for name, size in SIZES.items() if name in names}
    settings |= {
        name: _small(type(config), MORE.get(config.model_type, {})).to_dict()
        for name, config in inner.items()
        if isinstance(config, PreTrainedConfig)
    }
    return config_class(**settings | more)


def build_video(family: str) -> PreTrainedModel:
    """A tiny random video model, the same every time."""
    own = tiny_video_families.FAMILIES
    return tiny_video_families.build(family) if family in own else tiny_video.llava()


def outcome(family: str) -> Outcome:
    """Build a family and check it; what is pruned and not exact is an error."""
    try:
        model = build_video(family) if family in VIDEO else build(family)
    # Other people's configurations raise what they like.
    except Exception as error:
        return Outcome(family, "not built", why=str(error).strip().splitlines()[-1].strip())
    try:
        check = check_adapter(model)
    except UserError as error:
        return Outcome(family, "refused", why=str(error))
    assert check.ok, f"{family}: {check}"
    verdict = "exact" if check.pruned_layers == check.layers else "partly"
    return Outcome(family, verdict, f"{check.pruned_layers} of {check.layers}")


def video_table(outcomes: list[Outcome]) -> Iterator[str]:
    """The lines of `docs/reference/support.md` on video models."""
    yield ""
    yield "## Video models"
    yield ""
    yield (
        "`--model` takes a folder or a hub id of these families (`transfer eval` on video tasks, "
        "`transfer inspect`, lmms-eval); frames, prompts and positions are those of the official "
        "processors. The text model is pruned, the vision tower is not. Other video models can be "
        "pruned with `attach` and inputs of their own processor, as the table above says of their "
        "text models."
    )
    yield ""
    yield "| family | outcome | pruned layers | what is particular |"
    yield "|---|---|---|---|"
    for each in outcomes:
        yield f"| {each.family} | {each.verdict} | {each.layers} | {VIDEO[each.family]} |"


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """The lines of `docs/reference/support.md` on language models."""
    counts = Counter(outcome.verdict for outcome in outcomes)
    yield "# Which families can be pruned"
    yield ""
    yield (
        f"Every family of transformers {transformers.__version__} with a causal language model, "
        "as a tiny random model through `check_adapter`, made by `python tests/families.py`. "
        f"{counts['exact']} are pruned and exact, {counts['partly']} too, but for layers with an "
        "attention window, a chunk, a recurrent state or no attention, which are left alone "
        "([mixed-models.md](../explanation/mixed-models.md) says what is saved), "
        f"{counts['refused']} are refused in a sentence, {counts['not built']} could not be made "
        "tiny. Layers are those of the tiny model."
    )
    yield ""
    yield "| family | outcome | pruned layers | why |"
    yield "|---|---|---|---|"
    for each in outcomes:
        why = each.why.replace("|", "\\|")
        yield f"| {each.family} | {each.verdict} | {each.layers} | {why} |"


def quiet() -> None:
    """No warnings of other people's models."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()


def main() -> None:
    """Write the table."""
    quiet()
    torch.set_num_threads(1)
    outcomes = []
    for family in sorted(FAMILIES):
        outcomes.append(outcome(family))
        print(outcomes[-1], flush=True)
    lines = [*table(outcomes), *video_table([outcome(family) for family in VIDEO])]
    with replacing(TABLE) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
