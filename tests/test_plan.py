"""`transfer plan` against what models really hold, and against sums by hand."""

import json

import families
import pytest
import tiny
import torch
from transformers import (
    DeepseekV3Config,
    LlavaNextVideoConfig,
    MambaConfig,
    MistralConfig,
)

from transfer import NAMM, NAMMConfig, attach, cli
from transfer.adapters.control_model import load_control_model
from transfer.adapters.language_model import load_language_model
from transfer.adapters.video_model import load_video_model
from transfer.cache.stock import held_bytes
from transfer.errors import UserError
from transfer.plan import DevicePlan, Plan, plan_cache, plan_layers, print_plan

WINDOW = families.SIZES["sliding_window"]


def test_llama_70b_by_hand():
    [found] = plan_cache(Plan("llama-3-70b", "128k", budget=0.25))
    tokens, token = 131072, 2 * 128 * 2
    assert found.full == 80 * 8 * tokens * token
    kept = tokens // 4
    queries = 64 * (16 + 16) * (128 * 2 + 4)
    # 16 slots for new tokens, one of them taken.
    assert found.cache == 80 * 8 * ((kept + 16) * (token + 4) + 16)
    assert found.state == 80 * (8 * kept * 17 * 2 + queries)
    # Before the last update: a whole window beside what was kept at the one before.
    most = (tokens - 512) // 4 + 512
    assert found.peak == 80 * (8 * (most * (token + 4 + 17 * 2) + 16) + queries)


@pytest.mark.parametrize("policy", ["namm", "h2o", "recency"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tokens", [512, 700])
def test_a_model_holds_what_the_plan_says(policy, dtype, tokens, tmp_path):
    model = tiny.llama(kv_heads=2).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    plan = Plan(str(tmp_path), str(tokens), 0.25, policy, update_interval=128, batch=2)
    [found] = plan_cache(plan)
    chosen = NAMM(NAMMConfig()) if policy == "namm" else policy
    with attach(model, chosen, update_interval=128, budget=0.25) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(torch.randint(3, 97, (2, tokens)), cache=cache)
        assert found.peak == cache.peak_bytes()
        assert found.full == cache.full_bytes()
        model(torch.randint(3, 97, (2, 1)), cache=cache)
    assert found.cache + found.state == cache.bytes()
    assert found.layers == found.pruned_layers == 3


def test_a_number_of_tokens_weighs_the_same_at_any_context(capsys):
    short, long = (plan_cache(Plan("llama-3-8b", size, 4096))[0] for size in ("16k", "1M"))
    assert (long.cache, long.state, long.full) == (short.cache, short.state, 64 * short.full)
    assert cli.main(["plan", "--model", "llama-3-8b", "--context", "1M", "--budget", "4096"]) == 0
    assert "1048576 tokens, 4096 tokens a head kept" in " ".join(capsys.readouterr().out.split())


def test_only_a_namm_keeps_bytes(capsys):
    assert cli.main(["plan", "--policy", "h2o", "--state", "byte"]) == 2
    assert "state byte is of the policy namm, not of h2o" in capsys.readouterr().err


def test_layers_and_heads_are_shared_out():
    [whole] = plan_cache(Plan("llama-3-1b"))
    parts = plan_cache(Plan("llama-3-1b", devices=3))
    assert [part.layers for part in parts] == [6, 5, 5]
    for field in ("full", "cache", "state", "peak"):
        assert sum(getattr(part, field) for part in parts) == getattr(whole, field)
    [rank] = plan_cache(Plan("llama-3-1b", tensor_parallel=8))
    assert (8 * rank.full, 8 * rank.cache, 8 * rank.state) == (whole.full, whole.cache, whole.state)


def test_layers_with_larger_budgets_weigh_more():
    parts = plan_cache(Plan("llama-3-1b", "8k", policy="pyramidkv", devices=4))
    [whole] = plan_cache(Plan("llama-3-1b", "8k", policy="snapkv"))
    sizes = [part.cache for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 4 * sizes[3]
    assert sum(sizes) == whole.cache


@pytest.mark.parametrize("state", ["float", "byte"])
@pytest.mark.parametrize("name", ["llama-recall", "gpt2-recall", "llama-recall-wide"])
def test_a_shipped_model_holds_what_the_plan_says(name, state):
    [found] = plan_cache(Plan(name, "512", 0.25, state=state, update_interval=64))
    model = load_language_model(name).model
    with (
        attach(model, NAMM(NAMMConfig()), 64, 0.25, state=state) as memory,
        torch.no_grad(),
    ):
        cache = memory.new_cache()
        model(torch.randint(3, 97, (1, 512)), cache=cache)
        assert (found.full, found.peak) == (cache.full_bytes(), cache.peak_bytes())
        model(torch.randint(3, 97, (1, 1)), cache=cache)
    assert found.cache + found.state == cache.bytes()


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("llava-next-video-recall", load_video_model),
        ("decision-transformer-hopper-mixed", load_control_model),
    ],
)
def test_shipped_models_of_other_kinds_are_planned_as_they_are_loaded(name, load):
    model = load(name).model
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    token = (
        config.num_hidden_layers * heads * 2 * (config.hidden_size // config.num_attention_heads)
    )
    assert plan_cache(Plan(name, "300"))[0].full == 300 * token * model.dtype.itemsize


def test_the_type_of_a_model_of_two_parts_is_that_of_the_whole(tmp_path):
    config = LlavaNextVideoConfig(dtype="bfloat16")
    config.text_config.dtype = None
    config.save_pretrained(tmp_path)
    heads, dim, layers = 32, 128, 32
    [found] = plan_cache(Plan(str(tmp_path), "1k"))
    assert found.full == 1024 * layers * heads * 2 * dim * 2


@pytest.mark.parametrize("config", [DeepseekV3Config(), MambaConfig(), MistralConfig()])
def test_what_attach_refuses_is_refused(config, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"latents|no cache to plan|no full-attention layer"):
        plan_cache(Plan(str(tmp_path), "512"))


def test_what_a_refused_model_caches_can_be_told_all_the_same():
    layers = plan_layers(Plan("deepseek-v3"), refuse=False)
    # A latent of 512 numbers and a key of 64, both of one head.
    assert [layer.full_bytes(1000) for layer in layers] == [1000 * (512 + 64) * 2] * 61


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gemma3_text", "llama4_text", "falcon_h1"])
@pytest.mark.parametrize("tokens", [40, 300])
def test_a_mixed_model_holds_what_the_plan_says(family, tokens, tmp_path):
    model = families.build(family)
    model.config.max_position_embeddings = 1024
    model.save_pretrained(tmp_path)
    [found] = plan_cache(Plan(str(tmp_path), str(tokens), 0.25, "h2o", update_interval=32, batch=2))
    ids = torch.randint(3, 97, (2, tokens + 1))
    with attach(model, "h2o", update_interval=32, budget=0.25) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :tokens], cache=cache)
        assert found.pruned_layers == len(cache.pruned)
        # After a long call a window holds all but the token that comes next.
        spare = sum(held_bytes(w) // (w.sliding_window - 1) for w in cache.left_alone if long(w))
        assert found.peak == cache.peak_bytes() + spare
        assert found.full == cache.full_bytes() + spare
        model(ids[:, tokens:], cache=cache)
    held = cache.bytes() if tokens > 48 else cache.bytes() - _one_token(cache)
    assert found.cache + found.state == held


def long(layer):
    """Whether it has an attention window that is full."""
    return getattr(layer, "keys", None) is not None and layer.keys.shape[2] == WINDOW - 1


def _one_token(cache):
    windows = [layer for layer in cache.left_alone if getattr(layer, "keys", None) is not None]
    return sum(held_bytes(layer) // layer.keys.shape[2] for layer in windows)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"context": "12x"}, "context '12x'"),
        ({"context": "0"}, "context '0'"),
        ({"budget": 0.0}, "budget 0.0"),
        ({"budget": 1.5}, "budget 1.5"),
        ({"budget": 0}, "budget 0:"),
        ({"context": "1G"}, "context '1G'"),
        ({"devices": 0}, "--devices is 0"),
        ({"policy": "h20"}, "did you mean h2o"),
        ({"policy": "full"}, "unknown policy that prunes 'full'"),
        ({"policy": "namm:universal"}, "takes a policy's name alone, .*; use --policy namm$"),
        ({"policy": "namm:recall:state=byte"}, "use --policy namm --state byte$"),
        ({"policy": "nam:recall"}, "unknown policy that prunes 'nam:recall'"),
        ({"dtype": "int3"}, "unknown dtype 'int3'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Plan(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "llama-3-1b", "devices": 17}, "has 16 layers"),
        ({"model": "bamba-9b", "tensor_parallel": 2}, "shares out its recurrent states"),
        ({"tensor_parallel": 3}, "does not divide the 64 heads"),
        ({"tensor_parallel": 16}, "does not divide the 8 KV heads"),
        ({"model": "./nowhere"}, r"no folder ./nowhere; check the path .*llama-3-70b"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        plan_cache(Plan(**settings))


def test_a_device_whose_layers_hold_nothing_has_a_row(capsys, monkeypatch):
    nothing = DevicePlan(0, 1, 0, 0, 0, 0, 0)
    monkeypatch.setattr("transfer.plan.plan_cache", lambda plan: [nothing])
    print_plan(Plan("llama-3-1b"))
    assert capsys.readouterr().out.split()[-1] == "-"


def test_the_command_prints_a_table_or_json(capsys):
    assert cli.main(["plan", "--model", "llama-3-8b", "--context", "16k", "--devices", "2"]) == 0
    table = capsys.readouterr().out
    assert "llama-3-8b, 16384 tokens, 25% kept by namm every 512" in table
    assert table.split()[-9:-7] == ["all", "32"]
    assert cli.main(["plan", "--model", "llama-3-1b", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["plan"]["model"] == "llama-3-1b"
    assert printed["devices"][0]["full"] == 16 * 8 * 131072 * 256
    assert cli.main(["plan", "--kept", "2.0"]) == 2
    assert "error: budget 2.0" in capsys.readouterr().err
