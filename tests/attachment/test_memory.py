"""`attach`, `Memory` and its report."""

import pytest
import tiny
import torch

from transfer import NAMM, NAMMConfig, attach
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies.h2o import H2O


def run(memory, tokens=100, batch=1):
    ids = torch.randint(3, 97, (batch, tokens))
    with torch.no_grad():
        return memory.adapter.model(ids, cache=memory.new_cache()).logits


def prefilled(tokens, policy="h2o", **settings):
    """A memory through which so many tokens went in one call."""
    with attach(tiny.llama(), policy, **settings) as memory:
        run(memory, tokens)
    return memory


@pytest.mark.parametrize(
    ("tokens", "interval"),
    [(1, 32), (127, 32), (255, 32), (256, 64), (700, 128), (2047, 256), (2048, 512), (9000, 512)],
)
def test_the_interval_fits_the_first_call(tokens, interval):
    pruning = Pruning(H2O(), None, 8)
    assert pruning.fitted(tokens).update_interval == interval
    assert pruning.fitted(tokens).fitted(5).update_interval == interval
    assert Pruning(H2O(), 48, 8).fitted(tokens).update_interval == 48


def test_a_fitted_interval_is_one_the_policy_can_follow():
    class Coarse(H2O):
        multiple_of = 48

    found = [Pruning(Coarse(), None, 8).fitted(tokens).update_interval for tokens in (1, 700, 9000)]
    assert found == [48, 144, 528]


def test_by_default_each_cache_takes_its_interval_from_its_first_call():
    model = tiny.llama()
    ids = torch.randint(3, 97, (1, 300))
    with attach(model, "h2o", budget=8) as memory, torch.no_grad():
        first, second = memory.new_cache(), memory.new_cache()
        model(ids, cache=first)
        model(ids[:, :100], cache=second)
        assert {layer.pruning.update_interval for layer in first.pruned} == {64}
        assert {layer.pruning.update_interval for layer in second.pruned} == {32}
        second.reset()
        model(ids, cache=second)
        for one, other in zip(first.pruned, second.pruned):
            assert all(map(torch.equal, one.positions(), other.positions()))
        alone = model(ids, use_cache=False).logits
    with attach(model, "h2o", 64, budget=8) as memory, torch.no_grad():
        assert torch.equal(model(ids, use_cache=False).logits, alone)


@pytest.mark.parametrize(
    ("tokens", "settings", "said"),
    [
        (700, {"budget": 24}, "last pruned at token 640, 60 since (every 128 tokens)"),
        (
            700,
            {"budget": 24, "n_up": 512},
            "last pruned at token 512, 188 since (every 512 tokens)",
        ),
        (20, {"budget": 24}, "not pruned yet, first at token 32 (every 32 tokens)"),
        (64, {"budget": 24}, "last pruned at token 64, 0 since (every 32 tokens)"),
        (64, {"policy": "full"}, "nothing is evicted"),
    ],
)
def test_the_report_says_when_tokens_left(tokens, settings, said):
    assert said in str(prefilled(tokens, **settings).report()).splitlines()


@pytest.mark.parametrize(
    ("read", "said", "kept"),
    [
        (50, "last pruned at token 40, 10 since (every 64 tokens)", (8 + 10) / 50),
        (30, "not pruned yet, first at token 40 (every 64 tokens)", 1.0),
    ],
)
def test_an_update_that_was_shifted_is_reported_where_it_came(read, said, kept):
    model = tiny.llama()
    with attach(model, "recency", 64, budget=8, sinks=2) as memory, torch.no_grad():
        cache = memory.new_cache()
        cache.count_from(-40 % 64)
        model(torch.randint(3, 97, (1, read)), cache=cache)
        report = memory.report()
    assert said in str(report).splitlines()
    assert report.tokens == [read]
    assert report.kept_fraction == pytest.approx(kept)


def test_kept_are_the_positions_of_each_sequence_and_head():
    with attach(tiny.llama(), "recency", 32, budget=6, sinks=2) as memory:
        with pytest.raises(UserError, match="nothing went through the cache"):
            memory.kept(0)
        run(memory, tokens=70, batch=2)
        kept = memory.kept(1)
    newest = [0, 1, 60, 61, 62, 63, *range(64, 70)]
    assert [[head.tolist() for head in heads] for heads in kept] == [[newest] * 2] * 2
    with pytest.raises(UserError, match=r"layer 3 is not pruned; pruned layers: \[0, 1, 2\]"):
        memory.kept(3)


def test_attach_and_detach_leave_the_model_as_it_was():
    model = tiny.llama()
    before = model.config._attn_implementation
    ids = torch.randint(3, 97, (1, 50))
    with torch.no_grad():
        expected = model(ids).logits
        with attach(model, "recency", update_interval=16, budget=8) as memory:
            assert model.config._attn_implementation == "transfer_pruned"
            assert not torch.equal(model(ids, cache=memory.new_cache()).logits, expected)
        assert model.config._attn_implementation == before
        assert torch.equal(model(ids).logits, expected)
    assert not any(hasattr(module, "transfer_tie") for module in model.modules())
    with pytest.raises(UserError, match="detached"):
        memory.new_cache()
    memory.detach()


def test_a_model_is_attached_once_at_a_time():
    model = tiny.llama()
    with attach(model, "full") as memory:
        with pytest.raises(UserError, match="attached already"):
            attach(model, "full")
        run(memory)
    assert model.config._attn_implementation == "sdpa"


def test_setting_the_attention_by_hand_does_not_make_room_for_a_second_attachment():
    model = tiny.llama()
    with attach(model, "full"):
        model.set_attn_implementation("sdpa")
        with pytest.raises(UserError, match="attached already"):
            attach(model, "full")
    attach(model, "h2o", budget=8).detach()
    assert model.config._attn_implementation == "sdpa"


def test_a_model_that_shares_the_configuration_of_an_attached_one_is_refused():
    model = tiny.llama()
    other, ids = type(model)(model.config).eval(), torch.randint(3, 97, (1, 20))
    with attach(model, "full"), torch.no_grad():
        with pytest.raises(UserError, match="attached already"):
            attach(other, "full")
        with pytest.raises(UserError, match="is not attached"):
            other(ids)
    with torch.no_grad():
        assert other(ids).logits.isfinite().all()


def test_an_error_inside_the_block_detaches():
    model = tiny.llama()
    with pytest.raises(RuntimeError, match="mine"), attach(model, "full"):
        raise RuntimeError("mine")
    assert model.config._attn_implementation == "sdpa"


def test_report_counts_tokens_and_bytes():
    model = tiny.llama()
    with attach(model, "recency", update_interval=16, budget=8) as memory:
        run(memory, tokens=100, batch=2)
    report = memory.report()
    assert report.seen == 100
    # 6 updates, and 4 tokens since the last one
    assert report.kept == [[[12, 12], [12, 12]]] * 3
    assert report.kept_fraction == pytest.approx(0.12)
    assert report.bytes == memory.cache.bytes()
    assert report.full_bytes == 3 * 2 * 2 * 100 * (8 + 8) * 4
    assert report.bytes < report.full_bytes / 2
    assert "12.0% kept" in str(report)
    assert str(report).count("12") >= 6


def test_report_before_anything_ran_says_what_to_do():
    with attach(tiny.llama(), "full") as memory:
        memory.new_cache()
        with pytest.raises(UserError, match="nothing went through the cache"):
            memory.report()


def test_attention_is_that_of_the_stock_model_while_nothing_left():
    model = tiny.llama()
    ids = torch.randint(3, 97, (2, 50))
    with (
        attach(model, "full", update_interval=64, expose_attention=True) as memory,
        torch.no_grad(),
    ):
        model(ids, cache=memory.new_cache())
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(ids, output_attentions=True).attentions
    for layer in range(3):
        matrix = memory.attention(layer)
        assert matrix.shape == (2, 8, 50, 50)
        torch.testing.assert_close(matrix, expected[layer], rtol=1e-4, atol=1e-5)


def test_attention_after_eviction_covers_the_tokens_still_cached():
    with attach(
        tiny.llama(), "h2o", update_interval=32, budget=10, expose_attention=True
    ) as memory:
        run(memory, tokens=64)
        matrix = memory.attention(1)
    assert matrix.shape == (1, 8, 32, 10)
    assert (matrix.sum(-1) <= 1 + 1e-5).all()
    assert matrix[..., -1, -1].gt(0).all()


def test_attention_needs_a_policy_that_reads_it_or_the_switch():
    with attach(tiny.llama(), "recency", update_interval=32, budget=10) as memory:
        run(memory)
        with pytest.raises(UserError, match="expose_attention=True"):
            memory.attention(0)
        with pytest.raises(UserError, match=r"pruned layers: \[0, 1, 2\]"):
            memory.attention(7)


def test_a_namm_can_be_attached_as_it_is():
    namm = NAMM(NAMMConfig(), torch.zeros(4172).index_fill(0, torch.tensor([4171]), -1.0))
    with attach(tiny.llama(), namm, update_interval=32) as memory:
        run(memory, tokens=64)
    # A bias of -1 evicts everything but the newest token.
    assert memory.report().kept == [[[1, 1]]] * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_keep_their_cache_in_it(dtype):
    model = tiny.llama().to(dtype)
    with attach(model, "h2o", update_interval=32, budget=10) as memory:
        logits = run(memory, tokens=70)
    assert logits.dtype == dtype
    assert torch.isfinite(logits.float()).all()
    assert memory.cache.pruned[0].store.keys.dtype == dtype


def test_training_mode_and_gradients_are_refused():
    model = tiny.llama(attention_dropout=0.1)
    ids = torch.randint(3, 97, (1, 20))
    with attach(model, "full") as memory:
        with pytest.raises(UserError, match=r"torch.no_grad\(\)"):
            model(ids, cache=memory.new_cache())
        model.train()
        with pytest.raises(UserError, match=r"model.eval\(\)"), torch.no_grad():
            model(ids, cache=memory.new_cache())


def test_masks_that_are_more_than_padding_are_refused():
    model = tiny.llama()
    ids = torch.randint(3, 97, (1, 20))
    mask = torch.zeros(1, 1, 20, 20)
    with attach(model, "full") as memory, torch.no_grad():
        with pytest.raises(UserError, match="causality is its own"):
            model(ids, attention_mask=mask, cache=memory.new_cache())
        packed = torch.arange(10).repeat(2)[None]
        with pytest.raises(UserError, match="more than the future"):
            model(ids, position_ids=packed, use_cache=False)


@pytest.mark.parametrize("policy", ["h2o", "snapkv"])
def test_the_paper_s_name_of_the_interval_and_any_number_fit_a_hand_made_policy(policy):
    with attach(tiny.llama(), policy, n_up=20, budget=18) as memory:
        run(memory, tokens=64)
    assert memory.pruning.update_interval == 20
    assert memory.report().kept == [[[22, 22]]] * 3


def test_an_interval_that_a_namm_cannot_follow_is_refused():
    with pytest.raises(UserError, match=r"interval 20 does not fit policy namm; .*multiple of 16"):
        attach(tiny.llama(), NAMM(NAMMConfig()), n_up=20)


def test_attaching_with_a_misspelt_policy_names_the_nearest():
    with pytest.raises(UserError, match="did you mean recency"):
        attach(tiny.llama(), "recensy")


@pytest.mark.parametrize(
    ("policy", "settings", "sentence"),
    [
        (
            "recency",
            {"budget": 4, "sink": 3},
            "setting of policy recency 'sink'; did you mean sinks",
        ),
        ("namm", {"buget": 0.1}, "unknown setting of policy namm 'buget'"),
        (NAMM(NAMMConfig()), {"buget": 0.1}, "unknown setting of policy namm 'buget'"),
        (tiny.Uneven(), {"buget": 0.1}, "settings go with a policy's name"),
    ],
)
def test_misspelt_settings_are_not_swallowed(policy, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        attach(tiny.llama(), policy, **settings)


def test_a_gradient_through_the_values_alone_is_refused_too():
    model = tiny.llama().requires_grad_(False)
    model.model.layers[0].self_attn.v_proj.requires_grad_(True)
    with attach(model, "full"), pytest.raises(UserError, match="no gradient"):
        model(torch.randint(3, 97, (1, 8)), use_cache=False)


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        ("tova", {"budget": 8}),
        ("namm", {"eviction": "reference"}),
        ("h2o", {"budget": 8, "share": "layer"}),
    ],
)
def test_rules_that_compare_heads_are_refused_where_a_process_has_only_some(
    policy, settings, monkeypatch
):
    model = tiny.llama()
    monkeypatch.setattr(type(model), "tp_size", 2)
    if policy == "namm":
        settings = {**settings, "namm": NAMM(NAMMConfig())}
    with pytest.raises(UserError, match=r"compares all heads.*shard by layers"):
        attach(model, policy, **settings)
    attach(model, "h2o", budget=8).detach()


def test_namms_are_named_as_on_the_command_line():
    model = tiny.llama(layers=1)
    for name, shipped in (("namm", "recall"), ("namm:universal", "universal")):
        with attach(model, name) as memory:
            told = memory.pruning.policy.namm
        assert told.digest() == NAMM.from_pretrained(shipped).digest()
    with pytest.raises(UserError, match=r"behind the colon .* attach\(model, \"h2o\", budget=32\)"):
        attach(model, "h2o:budget=16")
    with pytest.raises(UserError, match="unknown NAMM 'universel'; did you mean universal"):
        attach(model, "namm:universel")
