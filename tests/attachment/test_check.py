"""Every family is pruned exactly; what would be silently wrong is refused by its cause."""

import pytest
import tiny
import torch
import transformers

from transfer import attach, check_adapter
from transfer.adapters.causal_lm import CausalLMAdapter
from transfer.adapters.decision_transformer import DecisionTransformerAdapter
from transfer.attachment.adapter import Adapter, get_adapter
from transfer.attachment.check import Sample
from transfer.cache.layer import PrunedLayer
from transfer.errors import UserError
from transfer.plugins import ADAPTERS

SMALL = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT = {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_inner": 96}
PLAIN_HEADS = {k: v for k, v in SMALL.items() if k not in ("num_key_value_heads", "head_dim")}
FAMILIES = {
    "llama": ("LlamaForCausalLM", SMALL),
    "mistral": ("MistralForCausalLM", {**SMALL, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", SMALL),
    "qwen3": ("Qwen3ForCausalLM", SMALL),
    "gemma": ("GemmaForCausalLM", SMALL),
    "gemma2": (
        "Gemma2ForCausalLM",
        {
            **SMALL,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "query_pre_attn_scalar": 16,
            "sliding_window": 64,
        },
    ),
    "gemma3_text": (
        "Gemma3ForCausalLM",
        {
            **SMALL,
            "sliding_window": 64,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "phi3": ("Phi3ForCausalLM", SMALL),
    "granite": ("GraniteForCausalLM", SMALL),
    "olmo2": ("Olmo2ForCausalLM", SMALL),
    "gpt2": ("GPT2LMHeadModel", {**PLAIN_HEADS, **GPT, "n_positions": 512}),
    "gpt_neox": ("GPTNeoXForCausalLM", PLAIN_HEADS),
    "opt": (
        "OPTForCausalLM",
        {**PLAIN_HEADS, "ffn_dim": 96, "word_embed_proj_dim": 64, "init_std": 0.15},
    ),
}
PRUNED_LAYERS = {"gemma2": 2, "gemma3_text": 2}


def make(kind, settings):
    model_class = getattr(transformers, kind)
    names = set(model_class.config_class().to_dict()) | set(model_class.config_class.attribute_map)
    config = model_class.config_class(**{k: v for k, v in settings.items() if k in names})
    torch.manual_seed(0)
    return model_class(config).eval()


def test_every_language_family_is_covered():
    assert set(FAMILIES) == {k for k in ADAPTERS if ADAPTERS.get(k) is CausalLMAdapter}


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_pruned_and_exact(family):
    model = make(*FAMILIES[family])
    assert type(get_adapter(model)) is CausalLMAdapter
    check = check_adapter(model)
    assert check.ok, str(check)
    assert check.pruned_layers == PRUNED_LAYERS.get(family, 4)
    assert check.model_type == family
    assert f"{family}: pruned and exact" in str(check)
    # Half of the layers have a window of 64 of the 164 tokens, which is held whatever is pruned.
    assert check.bytes < (0.6 if check.pruned_layers == 4 else 0.7) * check.full_bytes


def test_decision_transformer_is_pruned_and_exact():
    model = tiny.decision_transformer()
    assert type(get_adapter(model)) is DecisionTransformerAdapter
    check = check_adapter(model)
    assert check.ok, str(check)
    assert check.pruned_layers == 3


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
def test_check_trusts_a_right_model_in_every_precision(dtype):
    check = check_adapter(tiny.llama().to(dtype))
    assert check.ok, str(check)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_check_notices_when_the_pruned_run_is_not_exact(monkeypatch, dtype):
    original = PrunedLayer.attend

    def off(self, query, *rest):
        return original(self, query * 1.2, *rest)

    monkeypatch.setattr(PrunedLayer, "attend", off)
    check = check_adapter(tiny.llama().to(dtype))
    assert not check.ok
    assert "NOT TO BE TRUSTED" in str(check)


def test_check_leaves_the_model_as_it_was():
    model = tiny.llama().train()
    check_adapter(model)
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert not any("transfer" in name for m in model.modules() for name in vars(m))


@pytest.mark.parametrize(
    ("kind", "settings", "cause"),
    [
        ("Gemma2ForCausalLM", SMALL, "softcap"),
        ("GptOssForCausalLM", {**SMALL, "num_local_experts": 2, "num_experts_per_tok": 1}, "sinks"),
        ("MistralForCausalLM", {**SMALL, "sliding_window": 64}, "no full-attention layer"),
        ("T5ForConditionalGeneration", {"d_model": 32, "d_ff": 32, "num_layers": 1}, "encoder"),
    ],
)
def test_models_that_would_be_silently_wrong_are_refused_by_cause(kind, settings, cause):
    model = make(kind, settings)
    before = model.config._attn_implementation
    with pytest.raises(UserError, match=cause):
        attach(model, "full")
    assert model.config._attn_implementation == before


@pytest.mark.filterwarnings("ignore")
def test_a_model_without_the_attention_interface_is_refused():
    model = make("BloomForCausalLM", {**SMALL, "n_layer": 1, "n_head": 4})
    with pytest.raises(UserError, match="attention interface"):
        attach(model, "full")


def test_every_family_has_an_adapter_class():
    assert all(issubclass(ADAPTERS.get(kind), Adapter) for kind in ADAPTERS)


def test_the_users_own_inputs_are_checked_with_padding():
    ids = torch.randint(3, 97, (2, 90))
    mask = torch.ones_like(ids)
    mask[0, :20] = 0
    positions = (mask.cumsum(1) - 1).clamp(0)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    check = check_adapter(tiny.llama(), inputs=inputs)
    assert check.ok, str(check)


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ({}, "inputs has nothing"),
        ({"input_ids": [[1, 2]]}, "as tensors"),
        ({"input_ids": torch.ones(2, 5, dtype=torch.long)}, "5 tokens"),
        ({"input_ids": torch.full((1, 90), 5000)}, "cannot be run on these inputs"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs, cause):
    with pytest.raises(UserError, match=cause):
        check_adapter(tiny.llama(), inputs=inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2])
def test_an_error_of_a_thousandth_in_one_head_is_found(monkeypatch, make, dtype):
    original = PrunedLayer.attend

    def off(self, *states):
        out = original(self, *states).clone()
        if self.index == 1:
            out[:, 2] *= 1.001
        return out

    assert check_adapter(make().to(dtype)).ok
    monkeypatch.setattr(PrunedLayer, "attend", off)
    check = check_adapter(make().to(dtype))
    assert not check.ok
    assert check.pruned_error > 10 * check.tolerance


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "phi3", "opt"])
def test_in_float64_pruned_and_masked_are_the_same_to_a_trillionth(family):
    model = make(*FAMILIES[family]).double()
    check = check_adapter(model)
    assert check.ok, str(check)
    assert check.pruned_error <= 1e-12
    # The softmax of transformers' own eager attention is float32.
    if model.config._attn_implementation != "eager":
        assert max(check.full_error, check.step_error) <= 1e-12


def test_the_attention_sink_stays():
    model = tiny.llama()
    with attach(model, Sample(), 16, 0.25) as memory:
        cache = memory.new_cache()
        with torch.no_grad():
            model(torch.randint(3, 97, (2, 100)), cache=cache)
        for layer in cache.pruned:
            for heads in layer.positions():
                assert 0 in heads
            assert max(map(len, layer.positions())) < 50
