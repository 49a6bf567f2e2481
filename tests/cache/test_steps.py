"""Random lives of pruned caches against a dense masked model: equal or refused, never otherwise."""

import pickle
from contextlib import contextmanager
from copy import deepcopy
from threading import Thread

import pytest
import tiny
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from transformers import Lfm2Config, Lfm2ForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache import dense
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies import get_policy

POLICIES = {
    "uneven": (tiny.Uneven(), None),
    "h2o": (get_policy("h2o"), 9),
    "full": (get_policy("full"), None),
}
MODULES = ["layers.0.self_attn.q_proj", "layers.0.self_attn.o_proj", "layers.0.mlp"]
MODULES += ["layers.1.self_attn.k_proj", "layers.1.self_attn.o_proj", "layers.1.mlp", "norm"]


def double_norm(self, x):
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


LlamaDouble = type("LlamaDouble", (LlamaRMSNorm,), {"forward": double_norm})


def exact_llama():
    """Float64 throughout: Llama leaves its norm in float32 otherwise."""
    model = tiny.llama(layers=2).double()
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm):
            module.__class__ = LlamaDouble
    return model


@contextmanager
def error_in(model, name, kind):
    """The forward of one module of the model fails."""

    def fail(*args):
        raise kind

    handle = model.get_submodule(name).register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


class Life:
    """One cache and all that went through it: tokens, which are real, and what each could see."""

    def __init__(self, cache, batch):
        self.cache = cache
        self.ids = torch.zeros(batch, 0, dtype=torch.long)
        self.real = torch.zeros(batch, 0, dtype=torch.bool)
        self.dropped = torch.zeros(batch, 0, dtype=torch.bool)
        self.hidden = torch.zeros(batch, 0, 0, dtype=torch.bool)
        self.protected = [set() for _ in range(batch)]

    @property
    def shown(self):
        return self.real & ~self.dropped

    def extended(self, ids, real, dropped):
        """What it will be when the call is over."""
        batch, old, new = *self.ids.shape, ids.shape[1]
        after = Life(self.cache, batch)
        after.protected = self.protected
        after.ids = torch.cat([self.ids, ids], 1)
        after.real = torch.cat([self.real, real], 1)
        after.dropped = torch.cat([dropped, torch.zeros_like(real)], 1)
        after.hidden = torch.zeros(batch, old + new, old + new, dtype=torch.bool)
        after.hidden[:, :old, :old] = self.hidden
        after.hidden[:, old:] = after.dropped[:, None]
        return after

    def chosen(self, rows):
        after = Life(self.cache, len(rows))
        after.protected = [self.protected[row] for row in rows]
        for name in ("ids", "real", "dropped", "hidden"):
            setattr(after, name, getattr(self, name)[rows])
        return after


@torch.no_grad()
def dense_logits(model, life):
    adapter, tokens = get_adapter(model), life.ids.shape[1]
    dense.register()
    before = adapter.set_attention(dense.IMPLEMENTATION)
    for layer in life.cache.pruned:
        visible = dense.visibility(layer, tokens, life.real) & ~life.hidden[:, None]
        visible |= torch.eye(tokens, dtype=torch.bool)
        adapter.attention_modules[layer.index].transfer_visibility = visible
    logits = model(life.ids, attention_mask=torch.ones_like(life.ids), use_cache=False).logits
    for module in adapter.attention_modules:
        del module.transfer_visibility
    adapter.set_attention(before)
    return logits


class Lives(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        interval=st.sampled_from([5, 16]),
        batch=st.integers(1, 3),
        seed=st.integers(0, 1000),
    )
    def begin(self, policy, interval, batch, seed):
        torch.manual_seed(seed)
        self.model, self.reference = exact_llama(), None
        self.reference = deepcopy(self.model)
        rule_, budget = POLICIES[policy]
        self.pruning = Pruning(rule_, interval, budget, trace=True)
        self.batch = batch
        self.attach()

    def attach(self):
        self.memory = Memory(get_adapter(self.model), self.pruning)
        self.life = Life(self.memory.new_cache(), self.batch)

    def teardown(self):
        if hasattr(self, "memory"):
            self.memory.detach()

    def ask(self, life, ids, mask, model=None):
        with torch.no_grad():
            return (model or self.model)(ids, attention_mask=mask, cache=life.cache).logits

    def check(self, before, after, logits):
        expected = dense_logits(self.reference, after)[:, before.ids.shape[1] :]
        real = after.real[:, before.ids.shape[1] :]
        assert torch.isfinite(logits).all()
        error = (logits - expected).abs()[real]
        assert not len(error) or float(error.max()) <= 1e-9

    def call(self, tokens, padding, drop):
        """A call that has to work: ids, mask and what the life will be after it."""
        ids = torch.randint(3, 97, (self.batch, tokens))
        real = torch.rand(self.batch, tokens) >= 0.3 if padding else torch.ones_like(ids).bool()
        dropped = self.life.dropped
        if drop:
            dropped = dropped | (torch.rand(dropped.shape) < 0.2) & self.life.real
        mask = torch.cat([self.life.real & ~dropped, real], 1).long()
        plain = not padding and not drop and bool(mask.all())
        return ids, None if plain else mask, self.life.extended(ids, real, dropped)

    short = precondition(lambda self: self.life.ids.shape[1] < 90)

    @short
    @rule(tokens=st.integers(1, 30), padding=st.booleans(), drop=st.booleans())
    def run(self, tokens, padding, drop):
        ids, mask, after = self.call(tokens, padding, drop)
        self.check(self.life, after, self.ask(self.life, ids, mask))
        self.life = after

    @short
    @rule(steps=st.integers(1, 20))
    def decode(self, steps):
        for _ in range(steps):
            self.run(1, False, False)

    @rule(
        tokens=st.integers(1, 20),
        name=st.sampled_from(MODULES),
        kind=st.sampled_from([MemoryError, KeyboardInterrupt]),
        drop=st.booleans(),
        back=st.booleans(),
    )
    def fail(self, tokens, name, kind, drop, back):
        ids, mask, _ = self.call(tokens, False, drop)
        with error_in(self.model.model, name, kind), pytest.raises(kind):
            self.ask(self.life, ids, mask)
        untouched = name.endswith("layers.0.self_attn.q_proj")
        if not untouched:
            with pytest.raises(UserError, match="middle of a step"):
                self.ask(self.life, ids, mask)
            with pytest.raises(UserError, match="middle of a step"):
                self.life.cache.batch_repeat_interleave(2)
        if back or untouched:
            self.life.cache.rollback()
        else:
            self.life.cache.reset()
            self.life = Life(self.life.cache, self.batch)

    @rule(tokens=st.integers(1, 9))
    def elsewhere(self, tokens):
        """Given to a stock model, and to another attached one, it is refused and unharmed."""
        ids, mask, _ = self.call(tokens, False, False)
        with pytest.raises(UserError, match="outside its attention function"):
            self.ask(self.life, ids, mask, self.reference)
        with Memory(get_adapter(self.reference), self.pruning) as other:
            with pytest.raises(UserError, match="another model"):
                self.ask(self.life, ids, mask, self.reference)
            assert other.cache is None

    @rule(by_hand=st.booleans())
    def detach(self, by_hand):
        ids, mask, _ = self.call(3, False, False)
        if by_hand:
            self.model.set_attn_implementation("sdpa")
            with pytest.raises(UserError, match="set to 'sdpa'"):
                self.ask(self.life, ids, mask)
            self.model.set_attn_implementation("transfer_pruned")
            return
        self.memory.detach()
        with pytest.raises(UserError, match="has ended"):
            self.ask(self.life, ids, mask)
        old = self.life
        self.attach()
        with pytest.raises(UserError, match="has ended"):
            self.ask(old, ids, mask)

    @rule(pickled=st.booleans())
    def copy(self, pickled):
        cache = self.life.cache
        copied = pickle.loads(pickle.dumps(cache)) if pickled else deepcopy(cache)
        after = self.life.chosen(list(range(self.batch)))
        after.cache = copied
        self.run(2, False, False)
        self.life = after

    @rule(data=st.data())
    def reorder(self, data):
        rows = data.draw(st.lists(st.integers(0, self.batch - 1), min_size=1, max_size=3))
        if len(rows) == self.batch:
            self.life.cache.reorder_cache(torch.tensor(rows))
        else:
            self.life.cache.batch_select_indices(torch.tensor(rows))
        self.life, self.batch = self.life.chosen(rows), len(rows)

    @rule(data=st.data())
    def protect(self, data):
        """What has not left yet stays, in every head, through all that follows."""
        places = st.integers(-1, self.life.ids.shape[1] + 3)
        rows = st.lists(places, min_size=2, max_size=2)
        positions = torch.tensor([data.draw(rows) for _ in range(self.batch)])
        after = [row | set(new) - {-1} for row, new in zip(self.life.protected, positions.tolist())]
        try:
            self.life.cache.protect(positions)
        except UserError as error:
            assert "has left layer" in str(error) or max(map(len, after)) > 8, error
        else:
            self.life.protected = after

    @invariant()
    def protected_tokens_are_held(self):
        life = self.life if hasattr(self, "life") else Life(None, 0)
        for sequence, protected in enumerate(life.protected):
            come = {column for column in protected if column < life.ids.shape[1]}
            held = {column for column in come if life.shown[sequence, column]}
            for layer in life.cache.pruned:
                for head in layer.positions_of(sequence):
                    assert held <= set(head.tolist())

    @precondition(lambda self: self.batch == 1)
    @rule(times=st.integers(1, 3))
    def repeat(self, times):
        self.life.cache.batch_repeat_interleave(times)
        self.life, self.batch = self.life.chosen([0] * times), times

    @precondition(lambda self: self.life.ids.shape[1] and not self.life.dropped.any())
    @rule()
    def wrong_batch(self):
        ids = torch.randint(3, 97, (self.batch + 1, 4))
        with pytest.raises(UserError, match=f"holds {self.batch} sequences"):
            self.ask(self.life, ids, None)

    @precondition(lambda self: not self.life.shown.all())
    @rule()
    def show_again(self):
        ids = torch.randint(3, 97, (self.batch, 2))
        mask = torch.ones(self.batch, self.life.ids.shape[1] + 2, dtype=torch.long)
        with pytest.raises(UserError, match="an earlier mask hid"):
            self.ask(self.life, ids, mask)
        if self.life.dropped.any():
            with pytest.raises(UserError, match="without a mask"):
                self.ask(self.life, ids, None)

    @precondition(lambda self: self.life.ids.shape[1])
    @rule(tokens=st.integers(1, 4))
    def mask_of_another_length(self, tokens):
        ids = torch.randint(3, 97, (self.batch, tokens))
        mask = torch.ones(self.batch, self.life.ids.shape[1] + tokens + 1, dtype=torch.long)
        with pytest.raises(UserError, match="does not fit"):
            self.ask(self.life, ids, mask)

    @short
    @rule(tokens=st.integers(1, 20))
    def threads(self, tokens):
        """Two threads, each with a cache of its own, do not meet."""
        caches, logits = [], {}

        def work(number, life, ids, mask):
            caches.append(self.memory.new_cache())
            logits[number] = self.ask(life, ids, mask)

        calls = []
        for number in range(2):
            life = Life(self.memory.new_cache(), self.batch) if number else self.life
            ids = torch.randint(3, 97, (self.batch, tokens))
            real = torch.ones_like(ids).bool()
            mask = torch.cat([life.shown, real], 1).long()
            mask = None if mask.all() else mask
            calls.append((life, life.extended(ids, real, life.dropped), ids, mask))
        workers = [
            Thread(target=work, args=(number, life, ids, mask))
            for number, (life, _, ids, mask) in enumerate(calls)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len({id(cache) for cache in caches}) == 2
        for number, (life, after, _, _) in enumerate(calls):
            self.check(life, after, logits[number])
        self.life = calls[0][1]


Lives.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)
TestLives = Lives.TestCase


def sliding_behind_full():
    config = Qwen2Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=9,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    return Qwen2ForCausalLM(config).eval()


def convolutions_around_full():
    config = Lfm2Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention", "conv"],
    )
    return Lfm2ForCausalLM(config).eval()


@pytest.mark.parametrize("name", ["layers.0", "layers.1.self_attn.o_proj", "layers.2", "lm_head"])
def test_a_step_is_taken_back_from_layers_that_are_not_pruned(name):
    model, ids = sliding_behind_full(), torch.randint(3, 97, (2, 60))
    module = name if name == "lm_head" else f"model.{name}"
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        whole, broken = memory.new_cache(), memory.new_cache()
        for start in range(0, 60, 12):
            piece = ids[:, start : start + 12]
            expected = model(piece, cache=whole).logits
            with error_in(model, module, MemoryError), pytest.raises(MemoryError):
                model(piece, cache=broken)
            if name != "layers.0":
                with pytest.raises(UserError, match="middle of a step"):
                    model(piece, cache=broken)
            broken.rollback()
            assert torch.equal(model(piece, cache=broken).logits, expected)


@pytest.mark.parametrize("name", ["layers.1.self_attn.out_proj", "layers.2.conv", "lm_head"])
def test_a_recurrent_state_cannot_go_back_and_says_so(name):
    model, ids = convolutions_around_full(), torch.randint(3, 97, (1, 20))
    module = name if name == "lm_head" else f"model.{name}"
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        expected = model(ids, cache=cache).logits
        with error_in(model, module, MemoryError), pytest.raises(MemoryError):
            model(ids, cache=cache)
        with pytest.raises(UserError, match="middle of a step"):
            model(ids, cache=cache)
        with pytest.raises(UserError, match="recurrent state"):
            cache.rollback()
        cache.reset()
        assert torch.equal(model(ids, cache=cache).logits, expected)


def test_a_policy_that_fails_takes_nothing_with_it():
    class Fails(tiny.Uneven):
        broken = True

        def score(self, window, state):
            if self.broken and window.layer == 1:
                raise MemoryError
            return super().score(window, state)

    policy, model, ids = Fails(), tiny.llama(layers=2), torch.randint(3, 97, (1, 50))
    with Memory(get_adapter(model), Pruning(policy, 8)) as memory, torch.no_grad():
        cache = memory.new_cache()
        with pytest.raises(MemoryError):
            model(ids[:, :8], cache=cache)
        Fails.broken = False
        after = model(ids[:, 8:], cache=cache).logits
        cache = memory.new_cache()
        model(ids[:, :8], cache=cache)
        assert torch.equal(model(ids[:, 8:], cache=cache).logits, after)


def test_part_of_a_hybrid_model_may_be_called_but_not_unwatched():
    model, ids = convolutions_around_full(), torch.randint(3, 97, (1, 20))
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        model.model(ids, cache=cache)
        with error_in(model.model, "layers.1", ValueError), pytest.raises(ValueError):
            model.model(ids, cache=cache)
        with pytest.raises(UserError, match="middle of a step"):
            model.model(ids, cache=cache)
        with pytest.raises(UserError, match="recurrent state"):
            cache.rollback()
        with pytest.raises(UserError, match="call the model itself"):
            model.model.forward(ids, cache=memory.new_cache())


def test_an_interrupted_forward_pass_is_forgotten_by_the_next():
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (1, 20))
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        with error_in(model, "lm_head", KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            model(ids, cache=memory.new_cache())
        cache = memory.new_cache()
        for _ in range(2):
            model.model(ids, cache=cache)
        cache.batch_repeat_interleave(2)
        assert cache.get_seq_length() == 40


def test_a_model_inside_the_forward_pass_of_another_ends_its_own_step():
    outer, inner = tiny.llama(layers=2), tiny.llama(layers=2)
    ids, pruning = torch.randint(3, 97, (1, 20)), Pruning(get_policy("h2o"), 8, 5)
    with (
        Memory(get_adapter(outer), pruning) as one,
        Memory(get_adapter(inner), pruning) as other,
        torch.no_grad(),
    ):
        caches = one.new_cache(), other.new_cache()
        outer.model.norm.register_forward_hook(lambda *_: inner(ids, cache=caches[1]) and None)
        for _ in range(2):
            outer(ids, cache=caches[0])
        assert [cache.get_seq_length() for cache in caches] == [40, 40]


def test_what_is_refused_or_interrupted_half_way_changes_no_layer(monkeypatch):
    model, ids = sliding_behind_full(), torch.randint(3, 97, (2, 30))
    swapped = torch.tensor([1, 0])
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :20], cache=cache)
        expected = model(ids[:, 20:], cache=deepcopy(cache)).logits
        with pytest.raises(UserError, match="by a number of tokens"):
            cache.crop(-3)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(type(cache.layers[2]), "reorder_cache", interrupt)
            cache.reorder_cache(swapped)
        assert torch.equal(model(ids[:, 20:], cache=deepcopy(cache)).logits, expected)
        with pytest.raises(UserError, match="holds 2 sequences and was given 1"):
            model(ids[:1, 20:], cache=cache)
        assert torch.equal(model(ids[:, 20:], cache=cache).logits, expected)
    model = convolutions_around_full()
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :20], cache=cache)
        with pytest.raises(UserError, match="recurrent state"):
            cache.batch_select_indices(swapped)
        with pytest.raises(UserError, match="holds 2 sequences and was given 1"):
            model(ids[:1, 20:], cache=cache)
        cache.reorder_cache(swapped)
        straight = model(ids[swapped, :20], cache=memory.new_cache()).logits
        cache.reset()
        assert torch.equal(model(ids[swapped, :20], cache=cache).logits, straight)
        cache.reset()
        assert model(ids[:1, :20], cache=cache).logits.shape[0] == 1


def interrupt(*args):
    raise KeyboardInterrupt


def test_a_first_call_that_was_taken_back_decides_nothing():
    model, ids = tiny.llama(layers=3), torch.randint(3, 97, (2, 200))
    fitted = Pruning(get_policy("recency"), None, 16)
    with Memory(get_adapter(model), fitted) as memory, torch.no_grad():
        expected = model(ids[:, :140], cache=memory.new_cache()).logits
        cache = memory.new_cache()
        fails = error_in(model.model, "layers.1.mlp", KeyboardInterrupt)
        with fails, pytest.raises(KeyboardInterrupt):
            model(ids[:1], cache=cache)
        cache.rollback()
        assert torch.equal(model(ids[:, :140], cache=cache).logits, expected)


def test_a_copy_of_an_attached_model_is_refused_and_its_original_unharmed():
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (1, 20))
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        twin = deepcopy(model)
        for call in ({"use_cache": False}, {"cache": memory.new_cache()}, {}):
            with pytest.raises(UserError, match="is not attached"):
                twin(ids, **call)
        assert model(ids, cache=memory.new_cache()).logits.isfinite().all()
    with torch.no_grad(), pytest.raises(UserError, match="is not attached"):
        twin(ids)
    with pytest.raises(UserError, match="a copy of an attached one; copy a model before it is att"):
        Memory(get_adapter(twin), Pruning(get_policy("h2o"), 8, 5))


def test_tokens_are_hidden_while_another_sequence_has_none_yet():
    model, ids = exact_llama(), torch.randint(3, 97, (2, 30))
    first = torch.ones(2, 10, dtype=torch.long)
    first[0] = 0
    second = torch.cat([first, torch.ones_like(first)], 1)
    second[1, 9] = 0
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :10], attention_mask=first, cache=cache)
        model(ids[:, 10:20], attention_mask=second, cache=cache)
        held = cache.pruned[0].positions()
    assert all(int(tokens.min()) >= 10 for tokens in held[:2])
    assert all(9 not in tokens.tolist() for tokens in held[2:])


def test_a_cache_from_elsewhere_belongs_to_the_first_that_runs_it():
    model, twin, ids = tiny.llama(layers=2), tiny.llama(layers=2), torch.randint(3, 97, (1, 40))
    pruning = Pruning(get_policy("h2o"), 8, 5)
    with Memory(get_adapter(model), pruning) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :20], cache=cache)
        expected = model(ids[:, 20:], cache=deepcopy(cache)).logits
        # As one that another process has written.
        cache.binding = None
        assert torch.equal(model(ids[:, 20:], cache=cache).logits, expected)
        with Memory(get_adapter(twin), pruning), pytest.raises(UserError, match="another model"):
            twin(ids, cache=cache)


def test_a_cache_with_recurrent_states_from_elsewhere_goes_on():
    model, ids = convolutions_around_full(), torch.randint(3, 97, (1, 40))
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :20], cache=cache)
        expected = model(ids[:, 20:], cache=deepcopy(cache)).logits
        cache.binding = None
        assert torch.equal(model(ids[:, 20:], cache=cache).logits, expected)


def test_a_broken_cache_is_broken_in_its_copies_too():
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (1, 20))
    with Memory(get_adapter(model), Pruning(get_policy("h2o"), 8, 5)) as memory, torch.no_grad():
        cache = memory.new_cache()
        expected = model(ids, cache=cache).logits
        cache.reset()
        with error_in(model.model, "layers.1.mlp", MemoryError), pytest.raises(MemoryError):
            model(ids, cache=cache)
        for other in (deepcopy(cache), pickle.loads(pickle.dumps(cache))):
            with pytest.raises(UserError, match="middle of a step"):
                model(ids, cache=other)
            other.rollback()
            assert torch.equal(model(ids, cache=other).logits, expected)


def test_attached_or_detached_in_the_middle_of_a_forward_pass():
    model, ids = tiny.llama(layers=2), torch.randint(3, 97, (1, 20))
    pruning, made = Pruning(get_policy("h2o"), 8, 5), []

    def attach_now(*args):
        made.append(Memory(get_adapter(model), pruning))

    handle = model.lm_head.register_forward_hook(attach_now)
    with torch.no_grad():
        model(ids, use_cache=False)
        handle.remove()
        handle = model.lm_head.register_forward_hook(lambda *args: made[0].detach())
        cache = made[0].new_cache()
        model(ids, cache=cache)
        handle.remove()
        with pytest.raises(UserError, match="has ended"):
            model(ids, cache=cache)
        assert model(ids).logits.isfinite().all()
