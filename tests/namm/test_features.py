"""What the kinds of features promise: of tokens, of heads, and of what is kept."""

import math
from dataclasses import replace

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import NAMM, NAMMConfig, attach
from transfer.errors import UserError
from transfer.namm.features import Tokens
from transfer.namm.features.joined import Joined, get_feature, parts_of
from transfer.namm.features.log import LOG, SLOW
from transfer.namm.features.relative import RELATIVE, RELATIVE_SLOW
from transfer.namm.features.spec import SPEC, slower
from transfer.namm.spectrogram import HOP, ema_of_ones, ema_spectrogram
from transfer.plugins import FEATURES

BUILT_IN = sorted(FEATURES.built_in)
GAMMA = 0.99


def tokens_of(feature, lengths, seed=0, dtype=torch.float64):
    """Tokens of heads of these lengths, with garbage at padding."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.rand(len(lengths), max(lengths), *shape, generator=generator, dtype=dtype)

    valid = torch.arange(max(lengths), 0, -1) <= torch.tensor(lengths)[:, None]
    gaps = torch.randint(1, 9, valid.shape, generator=generator)
    age = gaps.flip(-1).cumsum(-1).flip(-1) - 1
    seen = int(age.max()) + 1
    state, norms = (drawn(feature.state_size) * 20 - 10).exp().clamp(max=16), drawn(2) + 0.1
    unlike = drawn() * 2 - 1
    state[~valid], norms[~valid], unlike[~valid] = 1e6, 1e6, 1e6
    index = (seen - 1 - age).masked_fill(~valid, 0)
    return Tokens(state, seen - 1 - index, index, valid, norms, GAMMA, unlike)


def some(tokens, rows, columns=slice(None)):
    """Some rows of tokens, and some columns of them."""
    names = ("state", "age", "index", "valid", "norms", "unlike")
    return replace(tokens, **{name: getattr(tokens, name)[rows, columns] for name in names})


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@pytest.mark.parametrize("name", [*BUILT_IN, "log+ages", "received:RECEIVED+universal"])
@settings(max_examples=12)
@given(lengths=lengths, seed=st.integers(0, 99))
def test_neither_padding_nor_another_row_is_read(name, lengths, seed):
    feature = get_feature(name)
    tokens = tokens_of(feature, lengths, seed)
    values = feature.read(tokens)
    assert values.shape == (*tokens.age.shape, feature.width)
    assert values[tokens.valid].isfinite().all()
    for row, length in enumerate(lengths):
        alone = some(tokens, slice(row, row + 1), slice(max(lengths) - length, None))
        torch.testing.assert_close(values[row, -length:], feature.read(alone)[0])


@pytest.mark.parametrize("name", ["universal_norms", "ages+unlike"])
@given(order=st.permutations(range(4)))
def test_heads_in_another_order_are_scored_in_that_order(name, order):
    namm = a_namm(name)
    tokens = tokens_of(namm.feature, [9, 20, 1, 14])
    scores, again = score(namm, tokens), score(namm, some(tokens, list(order)))
    torch.testing.assert_close(again, scores[list(order)])


def a_namm(name, scorer="bam", population=1):
    config = NAMMConfig(features=name, scorer=scorer, hidden=4)
    torch.manual_seed(0)
    width = get_feature(name).width
    numbers = torch.randn(population, config.size) * 0.3
    return NAMM(config, numbers, torch.randn(width), torch.rand(width) + 0.5)


def score(namm, tokens):
    return namm.score(tokens.state, tokens.age, index=tokens.index, valid=tokens.valid,
                      norms=tokens.norms, unlike=tokens.unlike)  # fmt: skip


@pytest.mark.parametrize("feature", [RELATIVE, RELATIVE_SLOW])
@given(power=st.integers(-40, 40), seed=st.integers(0, 99))
def test_the_scale_of_attention_does_not_show(feature, power, seed):
    tokens = tokens_of(feature, [12, 25], seed)
    scaled = replace(tokens, state=tokens.state * 2.0**power)
    torch.testing.assert_close(
        feature.read(scaled)[tokens.valid], feature.read(tokens)[tokens.valid]
    )


@given(first=st.floats(1e-3, 1e3), second=st.floats(1e-3, 1e3))
def test_the_scale_of_keys_and_values_does_not_show(first, second):
    feature = get_feature("norms")
    tokens = tokens_of(feature, [12, 25])
    scaled = replace(tokens, norms=tokens.norms * torch.tensor([first, second]).double())
    torch.testing.assert_close(
        feature.read(scaled)[tokens.valid], feature.read(tokens)[tokens.valid]
    )
    assert feature.read(tokens)[1].mean(0).abs().max() < 1e-6


@given(shift=st.floats(-1, 1), scale=st.floats(0.1, 10))
def test_how_keys_differ_is_told_beside_its_spread(shift, scale):
    feature = get_feature("unlike")
    tokens = tokens_of(feature, [12, 25])
    apart, relative = feature.read(tokens)[1].unbind(-1)
    torch.testing.assert_close(apart, tokens.unlike[1] - tokens.unlike[1].mean())
    torch.testing.assert_close(relative, apart / apart.std(correction=0))
    changed = feature.read(replace(tokens, unlike=tokens.unlike * scale + shift))[1]
    torch.testing.assert_close(changed[:, 0], apart * scale)
    torch.testing.assert_close(changed[:, 1], relative)


@pytest.mark.parametrize("name", ["two_decays", "universal"])
def test_a_state_of_half_precision_reads_nearly_the_same(name):
    feature = get_feature(name)
    tokens = tokens_of(feature, [40, 30], dtype=torch.float32)
    half = replace(tokens, state=tokens.state.half().float())
    error = (feature.read(half) - feature.read(tokens))[tokens.valid]
    assert 0 < error.abs().max() < 5e-3


@given(age=st.integers(0, 700), gamma=st.sampled_from([0.9, 0.99, 0.999]))
def test_ema_of_ones_is_that_of_ones(age, gamma):
    hops = age // HOP + 1
    attention = torch.zeros(HOP * (hops + 1), 1, dtype=torch.float64)
    attention[-age - 1 :] = 1
    expected = ema_spectrogram(attention, gamma)[0, 0]
    torch.testing.assert_close(ema_of_ones(torch.tensor(age), gamma), expected)


def test_a_token_that_came_late_says_the_same_as_an_old_one():
    """All tokens get a tenth from every query since they came, but for one that gets a fifth."""
    queries = 480
    attention = torch.full((queries, queries), 0.1, dtype=torch.float64).tril()
    attention[:, 300] *= 2
    attention = torch.cat([torch.zeros(HOP, queries), attention])
    age = torch.arange(queries).flip(0)[None]
    state = ema_spectrogram(attention, GAMMA, slower(GAMMA))[None]
    valid = torch.ones(1, queries, dtype=torch.bool)
    tokens = Tokens(state, age, age.flip(1), valid, None, GAMMA)
    for feature in (RELATIVE, RELATIVE_SLOW):
        first = feature.read(tokens)[0, :, 0]
        others = torch.cat([first[:300], first[301:]])
        assert first[300] > 10
        torch.testing.assert_close(others, others[0].expand_as(others), rtol=0, atol=1e-6)


def test_equal_tokens_and_tokens_without_attention_stand_at_the_mean():
    nothing = tokens_of(RELATIVE, [7])
    nothing = replace(nothing, state=torch.zeros(1, 7, 17))
    assert RELATIVE.read(nothing).abs().max() < 1e-3
    assert RELATIVE.read(tokens_of(RELATIVE, [1])).abs().max() == 0


def test_ages_places_and_sinks_by_hand():
    """Of 100 tokens seen, a head holds those of index 2, 50 and 99; padding stands before."""
    index = torch.tensor([[0, 2, 50, 99]])
    valid = torch.tensor([[False, True, True, True]])
    tokens = Tokens(torch.zeros(1, 4, 0), 99 - index, index, valid, None, GAMMA)
    ages = get_feature("ages").read(tokens)[0, 1:]
    expected = [[a / 100, math.log(1 + a), math.log((1 + a) / 101)] for a in (97, 49, 0)]
    torch.testing.assert_close(ages, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    place = get_feature("place").read(tokens)[0, 1:]
    expected = [[2 / 3, math.log(3)], [1 / 3, math.log(2)], [0, 0]]
    torch.testing.assert_close(place, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert get_feature("sink").read(tokens)[0, 1:, 0].tolist() == [1, 0, 0]


def test_what_is_kept_is_kept_once_and_each_part_reads_its_own():
    joined = get_feature("log+received:RECEIVED+slow+log+two_decays")
    assert len(parts_of(joined)) == 3
    assert (joined.state_size, joined.width, joined.multiple_of) == (35, 36, 16)
    tokens = tokens_of(joined, [5])
    received, spectrogram = tokens.state.split([1, 34], -1)
    torch.testing.assert_close(joined.read(tokens)[..., :17], LOG.transform(spectrogram))
    torch.testing.assert_close(joined.read(tokens)[..., 17:18], received)
    torch.testing.assert_close(joined.read(tokens)[..., 19:], SLOW.transform(spectrogram))
    assert not joined.half_state and Joined(LOG, SLOW).half_state


def held(name, pieces, interval=16, budget=None, gamma=GAMMA, dtype=torch.float64):
    """The first layer's cache after 60 tokens, and what was read of it at the last update."""
    torch.manual_seed(1)
    model, ids = tiny.llama(layers=1).to(dtype), torch.randint(3, 97, (1, 60))
    namm = a_namm(name) if budget else NAMM(NAMMConfig(features=name, gamma=gamma))
    with attach(model, namm, interval, budget) as memory, torch.no_grad():
        cache = memory.new_cache()
        for piece in ids.split(pieces, 1):
            model(piece, cache=cache)
    return cache.pruned[0]


@pytest.mark.parametrize(
    "name", ["universal_norms", "ages+sink", "relative+received:RECEIVED", "rates+place"]
)
def test_it_prunes_the_same_however_the_tokens_come(name):
    positions = [
        [head.tolist() for head in held(name, pieces, budget=9).positions()]
        for pieces in ([60], [3, 30, 27], [1] * 60)
    ]
    assert positions[0] == positions[1] == positions[2]
    assert [len(head) for head in positions[0]] == [9 + 60 % 16] * 2


def test_the_states_are_those_of_each_alone():
    both = held("two_decays+received:RECEIVED", [60]).store.padded_state()
    for name, gamma, place in (
        ("received:RECEIVED", GAMMA, slice(0, 1)),
        ("spec", GAMMA, slice(1, 18)),
        ("spec", slower(GAMMA), slice(18, 35)),
    ):
        alone = held(name, [60], gamma=gamma).store.padded_state()
        torch.testing.assert_close(both[..., place], alone)
        assert alone.abs().max() > 0.01


def test_rates_are_sums_of_the_attention():
    """Of a layer of which nothing left, up to the last update: all, with the decay, and squared."""
    layer, seen = held("rates", [7, 53]), 48
    torch.manual_seed(1)
    model = tiny.llama(layers=1, attn_implementation="eager").double()
    ids = torch.randint(3, 97, (1, 60))
    with torch.no_grad():
        [attention] = model(ids, output_attentions=True).attentions
    received = attention.unflatten(1, (2, -1)).mean(2)[0, :, :seen, :seen]
    weights = GAMMA ** torch.arange(seen - 1, -1, -1.0, dtype=torch.float64)
    faded, squares = (weights[:, None] * received).sum(1), received.square().sum(1)
    expected = [received.sum(1), faded, squares]
    torch.testing.assert_close(layer.store.padded_state()[:, :seen], torch.stack(expected, -1))


def test_rates_by_hand():
    """An old token and one that came late have got as much a query, another a third of that."""
    rates = get_feature("rates")
    age = torch.tensor([[7, 1, 0]])
    queries = (age[0] + 1).double()
    lately = (1 - GAMMA**queries) / (1 - GAMMA)
    received = torch.tensor([0.3, 0.1, 0.3], dtype=torch.float64)
    sums = [received * queries, received * lately, received.square() * queries]
    state = torch.stack(sums, -1)[None]
    tokens = Tokens(state, age, 7 - age, torch.ones(1, 3, dtype=torch.bool), None, GAMMA)
    read = rates.read(tokens)[0]
    for column in (0, 1, 2):
        torch.testing.assert_close(read[:, column], (received + 1e-6).log())
    values = (received / received.mean() + 1e-4).log()
    relative = (values - values.mean()) / values.std(correction=0)
    for column in (3, 4, 5):
        torch.testing.assert_close(read[:, column], relative)


def test_a_model_of_half_precision_keeps_half_a_state():
    layer = held("universal", [60], budget=9, dtype=torch.bfloat16)
    assert layer.store.state.dtype == torch.float16
    assert layer.store.state.shape[-1] == 34
    assert layer.store.state.isfinite().all()


def test_the_norms_are_those_of_what_is_held():
    """A NAMM of weight 1 at the value's norm keeps the tokens of the largest values."""
    config = NAMMConfig(features="norms", scorer="linear")
    vector = torch.zeros(config.size)
    vector[9] = 1
    torch.manual_seed(1)
    model, ids = tiny.llama(layers=1), torch.randint(3, 97, (1, 32))
    with attach(model, "full") as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids, cache=cache)
    store = cache.pruned[0].store
    values = store.padded(store.values).norm(dim=-1)
    with attach(model, NAMM(config, vector), 32, budget=6) as memory, torch.no_grad():
        cache = memory.new_cache()
        model(ids, cache=cache)
    for head, positions in zip(values, cache.pruned[0].positions()):
        best = {*head[:-1].topk(5).indices.tolist(), 31}
        assert set(positions.tolist()) == best


@pytest.mark.parametrize("column", [0, 1])
def test_a_namm_of_how_keys_differ_alone_is_keydiff(column):
    config = NAMMConfig(features="unlike", scorer="linear")
    vector = torch.zeros(config.size)
    vector[8 + column] = 1
    torch.manual_seed(1)
    model, ids, kept = tiny.llama(), torch.randint(3, 97, (2, 70)), []
    for policy in (NAMM(config, vector), "keydiff"):
        with attach(model, policy, 16, budget=6) as memory, torch.no_grad():
            model(ids, cache=memory.new_cache())
            kept.append([memory.kept(layer)[1] for layer in range(3)])
    for ours, theirs in zip(*kept):
        assert all(map(torch.equal, ours, theirs))


def test_what_is_not_told_is_asked_for():
    with pytest.raises(ValueError, match="universal_norms need the norms of keys and values"):
        a_namm("universal_norms").score(torch.rand(1, 4, 34), torch.arange(4).flip(0)[None])
    with pytest.raises(ValueError, match=r"ages\+unlike need the keys' unlikeness"):
        a_namm("ages+unlike").score(torch.rand(1, 4, 0), torch.arange(4).flip(0)[None])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("log+agse", "unknown feature 'agse'; did you mean ages"),
        ("log+", "unknown feature ''"),
        ("log+linear:LINEAR", "must be an instance of transfer.namm.features:Feature"),
    ],
)
def test_a_part_that_is_none_is_named(name, said):
    with pytest.raises(UserError, match=said):
        NAMMConfig(features=name)


def test_a_file_names_no_module_of_this_folder_in_any_part(tmp_path, monkeypatch):
    (tmp_path / "lying_here.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    NAMM(NAMMConfig()).save_pretrained("mine")
    config = tmp_path / "mine" / "config.json"
    config.write_text(config.read_text().replace('"spec"', '"received:RECEIVED+lying_here:X"'))
    with pytest.raises(UserError, match="no module lying_here is installed"):
        NAMM.from_pretrained("mine")


def test_the_linear_scorer_is_a_weighted_sum():
    namm = a_namm("log", scorer="linear")
    tokens = tokens_of(SPEC, [6], dtype=torch.float32)
    read = namm.embed(tokens.state, tokens.age)
    expected = read @ namm.vector[0, :-1] + namm.vector[0, -1]
    torch.testing.assert_close(namm.score(tokens.state, tokens.age), expected)
    assert namm.config.size == 8 + 17 + 1
