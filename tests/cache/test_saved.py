"""A pruned cache in a file goes on to the same bits, and only where it belongs."""

import subprocess
import sys

import families
import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from transfer import NAMM, attach
from transfer.adapters.language_model import load_language_model
from transfer.attachment.adapter import get_adapter
from transfer.attachment.memory import Memory
from transfer.cache.policy import Policy, Pruning
from transfer.errors import UserError
from transfer.policies import get_policy

#: Tokens of the calls before the file, and of those after it; updates come in the middle of them.
BEFORE, AFTER = [41, 30, 1], [1, 35, 1]
INTERVAL, BUDGET, PADDING = 16, 12, 9


def rule(name):
    name, bytes_, _ = name.partition(" in bytes")
    own = {"namm": NAMM.from_pretrained("recall")} if name == "namm" else {}
    own |= {"state": "byte"} if bytes_ else {}
    return tiny.Uneven() if name == "uneven" else get_policy(name, **own)


def inputs(padding=PADDING, batch=2):
    tokens = sum(BEFORE) + sum(AFTER)
    ids = torch.randint(3, 97, (batch, tokens), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def run(model, cache, calls, start=0, padding=PADDING):
    ids, mask, positions = inputs(padding)
    out = []
    for new in calls:
        part = slice(start, start + new)
        start += new
        given = {"attention_mask": mask[:, :start], "position_ids": positions[:, part]}
        out.append(model(ids[:, part], **given, cache=cache).logits)
    return torch.cat(out, 1)


def held(cache):
    """Everything that a cache says of itself but for how long it took."""
    layers = [
        [[each.tolist() for each in layer.positions()], layer.held(), layer.last_updates()]
        for layer in cache.pruned
    ]
    return layers, cache.kept(), cache.bytes(), cache.peak_bytes(), cache.full_bytes()


def check(model, policy, file, padding=PADDING, prepare=lambda cache: None, **settings):
    """What is loaded goes on as what was saved."""
    with attach(model, policy, **settings) as memory:
        cache = memory.new_cache()
        prepare(cache)
        run(model, cache, BEFORE, padding=padding)
    cache.save(file)
    with attach(model, policy, **settings) as memory:
        loaded = memory.load_cache(file)
        assert memory.cache is loaded
        # That of the cache that was saved has ended.
        cache.binding = loaded.binding
        assert held(loaded)[:2] == held(cache)[:2]
        told = run(model, loaded, AFTER, sum(BEFORE), padding)
        assert torch.equal(told, run(model, cache, AFTER, sum(BEFORE), padding))
        assert held(loaded) == held(cache)
        return cache, loaded


#: Of each kind: with a state, looking back, drawing, unlike in layers, keeping everything.
KINDS = ["namm", "h2o", "snapkv", "random", "pyramidkv", "full"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_policy_goes_on_to_the_same_bits(name, tmp_path):
    policy = rule(name)
    budget = BUDGET if policy.evicts and name != "uneven" else None
    cache, _ = check(
        tiny.llama(layers=2), policy, tmp_path / "a", update_interval=INTERVAL, budget=budget
    )
    assert (min(cache.kept()[0][1]) < sum(BEFORE + AFTER)) == policy.evicts


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("namm", {}),
        ("namm in bytes", {"budget": BUDGET}),
        ("namm", {"eviction": "reference"}),
        ("namm", {"share": "layer", "budget": 0.3, "sinks": 2}),
        ("l2_norm", {"share": "model", "threshold": -3.0}),
        ("h2o", {"budget": 0.25, "keep_recent": 3, "sinks": 2}),
        ("snapkv", {"budget": BUDGET, "expose_attention": True}),
        ("h2o", {"budget": BUDGET, "update_interval": None}),
        ("uneven", {"update_interval": 7}),
    ],
)
def test_every_setting_goes_on_to_the_same_bits(name, settings, tmp_path):
    settings = {"update_interval": INTERVAL, **settings}
    cache, loaded = check(tiny.llama(layers=1), rule(name), tmp_path / "a", **settings)
    if "expose_attention" in settings:
        assert torch.equal(loaded.pruned[0].attention(), cache.pruned[0].attention())


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_numbers_of_other_sizes_go_on_to_the_same_bits(dtype, tmp_path):
    settings = {"update_interval": INTERVAL, "budget": BUDGET}
    check(tiny.llama(layers=1).to(dtype), rule("namm"), tmp_path / "a", **settings)


def test_what_is_protected_stays_so(tmp_path):
    def prepare(cache):
        # The last of them have not come when the file is written.
        cache.protect([[20, 100, -1], [3, 4, 105]])

    settings = {"update_interval": INTERVAL, "budget": BUDGET, "prepare": prepare}
    _, loaded = check(tiny.llama(layers=1), rule("random"), tmp_path / "a", **settings)
    for head in loaded.pruned[0].positions_of(1):
        assert {3, 4, 105} <= set(head.tolist())


def test_tokens_that_a_mask_has_hidden_stay_hidden(tmp_path):
    model = tiny.llama(layers=2)
    ids, mask, _ = inputs(0)
    with attach(model, "h2o", update_interval=INTERVAL, budget=BUDGET) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids[:, :20], attention_mask=mask[:, :20], cache=cache)
        mask[1, 4:9] = 0
        model(ids[:, 20:40], attention_mask=mask[:, :40], cache=cache)
        cache.save(tmp_path / "a")
        loaded = memory.load_cache(tmp_path / "a")
        assert torch.equal(
            *(model(ids[:, 40:], attention_mask=mask, cache=one).logits for one in (cache, loaded))
        )
        with pytest.raises(UserError, match="an earlier attention mask hid tokens"):
            model(ids[:, :1], cache=loaded)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gemma3_text", "falcon_h1", "lfm2", "zaya"])
def test_windows_and_recurrent_states_go_on_too(family, tmp_path, monkeypatch):
    if family == "zaya":
        # A window and a recurrent state in one layer.
        monkeypatch.setitem(families.MORE, family, families.MORE[family] | families._WINDOWED)
    model = families.build(family)
    with attach(model, "h2o", update_interval=INTERVAL, budget=BUDGET) as memory:
        cache = memory.new_cache()
        run(model, cache, BEFORE, padding=0)
        cache.save(tmp_path / "a")
        loaded = memory.load_cache(tmp_path / "a")
        assert torch.equal(
            *(run(model, one, AFTER, sum(BEFORE), 0) for one in (cache, loaded)),
        )
        assert held(loaded) == held(cache)


REST = """
import sys, torch
from transfer import NAMM, attach
from transfer.adapters.language_model import load_language_model
model, ids = load_language_model("llama-recall").model, torch.load(sys.argv[2], weights_only=True)
namm = NAMM.from_pretrained("recall")
with attach(model, namm, budget=0.25, update_interval=32) as memory:
    cache = memory.load_cache(sys.argv[1])
    print(model.generate(ids, cache=cache, max_new_tokens=12, do_sample=False).tolist())
"""


def test_another_process_goes_on_to_the_same_tokens(tmp_path):
    model = load_language_model("llama-recall").model
    ids = torch.randint(3, model.config.vocab_size, (1, 500))
    namm = NAMM.from_pretrained("recall")
    with attach(model, namm, budget=0.25, update_interval=32) as memory:
        cache = memory.new_cache()
        first = model.generate(ids, cache=cache, max_new_tokens=3, do_sample=False)
        cache.save(tmp_path / "cache.safetensors")
        assert (tmp_path / "cache.safetensors").stat().st_size < 0.6 * cache.full_bytes()
        rest = model.generate(first, cache=cache, max_new_tokens=12, do_sample=False)
    torch.save(first, tmp_path / "ids")
    words = [sys.executable, "-c", REST, tmp_path / "cache.safetensors", tmp_path / "ids"]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(rest.tolist())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, and a file of its cache."""
    torch.manual_seed(0)
    model, file = tiny.llama(layers=1), tmp_path_factory.mktemp("saved") / "cache"
    with attach(model, "h2o", update_interval=INTERVAL, budget=BUDGET) as memory:
        run(model, memory.new_cache(), BEFORE)
        memory.cache.save(file)
    return model, file


def refused(model, file, sentence, policy="h2o", **settings):
    settings = {"update_interval": INTERVAL, "budget": BUDGET, **settings}
    with attach(model, policy, **settings) as memory, pytest.raises(UserError, match=sentence):
        memory.load_cache(file)
    assert memory.cache is None


def test_a_cache_is_refused_by_another_model_policy_and_setting(saved):
    model, file = saved
    torch.manual_seed(1)
    refused(tiny.llama(layers=1), file, "saved under weights .* and here it is")
    refused(tiny.llama(layers=2), file, "saved under config num_hidden_layers 1 .*here it is 2")
    other = tiny.llama(layers=1, rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
    other.load_state_dict(model.state_dict())
    refused(other, file, "saved under config rope_parameters")
    refused(tiny.gpt2(), file, "saved under family 'llama'")
    refused(model.double(), file, "saved under weights")
    model.float()
    refused(model, file, "saved under policy 'h2o", "tova")
    refused(model, file, "saved under budget 12 .* here it is 0.5", budget=0.5)
    refused(model, file, "saved under update_interval 16 .* here it is 32", update_interval=32)
    refused(model, file, "saved under sinks 0 .* here it is 2", sinks=2)
    refused(model, file, "saved under share 'head'", share="layer")
    with attach(model, "h2o", update_interval=INTERVAL, budget=BUDGET) as memory:
        assert memory.load_cache(file).used


@pytest.mark.parametrize(
    ("policy", "other", "sentence"),
    [
        (lambda: rule("namm"), lambda: get_policy("namm", namm=NAMM.from_pretrained("replay")), ""),
        (lambda: rule("namm in bytes"), lambda: rule("namm"), "namm state .byte"),
        (lambda: get_policy("random"), lambda: get_policy("random", seed=1), "random seed 0"),
        (lambda: Counting(3), lambda: Counting(4), "counting every 3"),
    ],
)
def test_a_policy_is_told_from_others_of_its_class(policy, other, sentence, tmp_path):
    model = tiny.llama(layers=1)
    settings = {"update_interval": INTERVAL, "budget": BUDGET}
    check(model, policy(), tmp_path / "a", **settings)
    refused(model, tmp_path / "a", f"saved under {sentence}", other())


class Counting(Policy):
    """Of somebody else: no dataclass."""

    name = "counting"

    def __init__(self, every):
        self.every = every

    def score(self, window, state):
        return (window.positions % self.every).float(), state


def test_a_policy_that_no_file_can_describe_is_refused(tmp_path):
    model = tiny.llama(layers=1)
    with attach(
        model, Counting(torch.tensor(3)), update_interval=INTERVAL, budget=BUDGET
    ) as memory:
        run(model, memory.new_cache(), BEFORE)
        with pytest.raises(UserError, match=r"which counting this is .* identity\(\)"):
            memory.cache.save(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_one_budget_is_not_all_of_the_tokens(tmp_path):
    model = tiny.llama(layers=1)
    check(model, rule("l2_norm"), tmp_path / "a", update_interval=INTERVAL, budget=1)
    refused(model, tmp_path / "a", "saved under budget 1 .* here it is 1.0", "l2_norm", budget=1.0)


def changed(file, out, what):
    """The file with something else in it."""
    content = file.read_bytes()
    if what == "cut":
        out.write_bytes(content[: len(content) // 2])
    elif what == "a bit":
        out.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif what == "metadata":
        out.write_bytes(content.replace(b'seen\\": 72', b'seen\\": 73'))
        assert out.read_bytes() != content
    elif what == "a tensor less":
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        tensors = load_file(file)
        tensors.pop("layers.0.lse")
        save_file(tensors, out, metadata)
    elif what == "no cache":
        save_file({"x": torch.zeros(2)}, out)
    elif what == "text":
        out.write_text("once upon a time")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("cut", "is cut or damaged"),
        ("a bit", "was changed after it was written"),
        ("metadata", "was changed after it was written"),
        ("a tensor less", "was changed after it was written"),
        ("no cache", "holds no cache"),
        ("text", "is cut or damaged"),
        ("nothing", "there is no file"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(what, sentence, saved, tmp_path):
    model, file = saved
    changed(file, tmp_path / "other", what)
    refused(model, tmp_path / "other", sentence)


def test_there_has_to_be_something_to_save(saved, tmp_path):
    model, _ = saved
    with attach(model, "full") as memory:
        for save in (memory.new_cache().save, memory.new_cache().save_kept):
            with pytest.raises(UserError, match="nothing went through this cache yet"):
                save(tmp_path / "a")
        with pytest.raises(UserError, match="file is 3"):
            memory.new_cache().save(3)


def test_the_middle_of_a_step_is_not_saved(saved, tmp_path):
    model, _ = saved
    with attach(model, "full") as memory, torch.no_grad():
        cache = memory.new_cache()
        hook = model.model.norm.register_forward_hook(lambda *args: cache.save(tmp_path / "a"))
        with pytest.raises(UserError, match="in the middle of a step"):
            model(inputs()[0], cache=cache)
        hook.remove()
        with pytest.raises(UserError, match="in the middle of a step"):
            cache.save(tmp_path / "a")
        cache.rollback()
        run(model, cache, BEFORE)
        cache.save(tmp_path / "a")


def test_a_cache_that_traces_its_updates_is_not_saved(saved, tmp_path):
    model, _ = saved
    pruning = Pruning(rule("h2o"), INTERVAL, BUDGET, trace=True)
    with Memory(get_adapter(model), pruning) as memory:
        run(model, memory.new_cache(), BEFORE)
        with pytest.raises(UserError, match="prune without trace"):
            memory.cache.save(tmp_path / "a")


def test_a_part_of_the_heads_is_not_saved(saved, tmp_path, monkeypatch):
    model, _ = saved
    with attach(model, "full") as memory:
        run(model, memory.new_cache(), BEFORE)
        monkeypatch.setattr(type(model), "tp_size", 2)
        with pytest.raises(UserError, match="only some heads of each layer"):
            memory.cache.save(tmp_path / "a")


def test_a_model_whose_weights_are_elsewhere_cannot_be_told_from_others(tmp_path):
    model = tiny.llama(layers=1)
    with attach(model, "full") as memory:
        run(model, memory.new_cache(), BEFORE)
        model.lm_head.to("meta")
        with pytest.raises(UserError, match=r"lm_head\.weight of this model is offloaded"):
            memory.cache.save(tmp_path / "a")


def test_what_lies_in_the_file_s_place_stays_until_there_is_more(saved, tmp_path, monkeypatch):
    model, _ = saved
    (tmp_path / "a").write_text("old")
    with attach(model, "full") as memory, torch.no_grad():
        model(inputs()[0], cache=memory.new_cache())
        cache = memory.cache

        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("transfer.cache.saved.save_file", full)
        for save in (cache.save, cache.save_kept):
            with pytest.raises(UserError, match="No space left"):
                save(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_is_kept_can_be_read_without_this_package(tmp_path):
    model = tiny.llama(layers=2)
    with attach(model, tiny.Uneven(), update_interval=INTERVAL) as memory:
        run(model, memory.new_cache(), BEFORE)
        memory.cache.save_kept(tmp_path / "kept")
        told = load_file(tmp_path / "kept")
        for layer in range(2):
            lengths = told[f"layers.{layer}.lengths"]
            heads = told[f"layers.{layer}.positions"].split(lengths.flatten().tolist())
            own = [head for sequence in memory.kept(layer) for head in sequence]
            assert [head.tolist() for head in heads] == [head.tolist() for head in own]
            assert lengths.tolist() == memory.cache.kept()[layer] and len(set(map(len, own))) > 1
    with safe_open(tmp_path / "kept", "pt") as opened:
        assert opened.metadata() == {"seen": str(sum(BEFORE))}


def test_any_column_of_a_large_matrix_tells_a_model_from_another(tmp_path):
    model = tiny.llama(layers=1, vocabulary=2048)
    with attach(model, "h2o", update_interval=INTERVAL, budget=BUDGET) as memory:
        run(model, memory.new_cache(), BEFORE)
        memory.cache.save(tmp_path / "a")
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 1] *= -1
    refused(model, tmp_path / "a", "saved under weights")


def test_a_loaded_cache_does_not_follow_its_file(saved, tmp_path):
    model, file = saved
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    with attach(model, "h2o", update_interval=INTERVAL, budget=BUDGET) as memory:
        loaded, kept = memory.load_cache(copy), memory.load_cache(file)
        size = copy.stat().st_size // 2
        with copy.open("r+b") as overwritten:
            overwritten.seek(size)
            overwritten.write(bytes(size))
        for layer, other in zip(loaded.pruned, kept.pruned, strict=True):
            for ours, theirs in zip(layer.tensors(), other.tensors(), strict=True):
                assert torch.equal(ours, theirs)
