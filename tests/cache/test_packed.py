import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.cache.packed import PackedTokens

DIM = 3


def new_store(batch, heads, slack):
    empty = torch.zeros(batch, heads, 0, DIM)
    return PackedTokens(empty, empty, state_size=2, state_dtype=torch.float32, slack=slack)


def contents(store):
    """(position, first key number, first state number) of every token of every row."""
    state = store.padded_state()
    return [
        list(
            zip(
                store.row(store.positions, row).tolist(),
                store.row(store.keys, row)[:, 0].tolist(),
                store.row(store.values, row)[:, 1].tolist(),
                state[row, store.longest - store.lengths[row] :, 0].tolist(),
            )
        )
        for row in range(len(store.lengths))
    ]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 9), st.booleans()),
        st.tuples(st.just("keep"), st.integers(0, 100), st.just(False)),
        st.tuples(st.just("select"), st.integers(0, 100), st.just(False)),
    ),
    max_size=8,
)


@given(steps=steps, slack=st.integers(0, 6), seed=st.integers(0, 1000))
def test_any_sequence_of_operations_equals_lists(steps, slack, seed):
    random = torch.Generator().manual_seed(seed)
    batch, heads = 2, 2
    store, model, seen = new_store(batch, heads, slack), [[] for _ in range(batch * heads)], [0, 0]
    for kind, number, padded in steps:
        if kind == "append":
            key = torch.randn(batch, heads, number, DIM, generator=random)
            value = torch.randn(batch, heads, number, DIM, generator=random)
            valid = torch.rand(batch, number, generator=random) < 0.6 if padded else None
            both = [None] * batch if valid is None else valid
            store.append(key, value, seen, valid)
            for row in range(batch * heads):
                b, h = divmod(row, heads)
                real = [i for i in range(number) if valid is None or valid[b, i]]
                for place, i in enumerate(real):
                    at, k, v = seen[b] + place, key[b, h, i, 0].item(), value[b, h, i, 1].item()
                    model[row].append((at, k, v, 0.0))
            seen = [n + (number if valid is None else int(v.sum())) for n, v in zip(seen, both)]
        elif kind == "keep" and store.longest:
            _, valid = store.index()
            kept = (torch.rand(valid.shape, generator=random) < 0.5) & valid
            state = torch.full((*kept.shape, 2), float(number))
            store.keep(kept.view(batch, heads, -1), state.view(batch, heads, -1, 2), slack)
            for row, tokens in enumerate(model):
                chosen = kept[row, kept.shape[1] - len(tokens) :].tolist()
                model[row] = [(*t[:3], float(number)) for t, c in zip(tokens, chosen) if c]
        elif kind == "select":
            batch = 1 if number % 2 else batch
            seen = seen[:batch]
            rows = [0, 1] if number % 2 else list(range(batch * heads))
            store.select(rows)
            model = [model[row] for row in rows]
    assert contents(store) == model
    assert all(n <= room for n, room in zip(store.lengths, store.capacity))


def test_padded_puts_the_newest_token_last_and_zeros_before_the_oldest():
    store = new_store(1, 2, slack=4)
    key = torch.arange(12.0).view(1, 2, 2, 3) + 1
    store.append(key, key, [0], None)
    store.keep(torch.tensor([[[False, True], [True, True]]]), torch.zeros(1, 2, 2, 2), 4)
    assert store.lengths == [1, 2]
    assert store.padded(store.keys).tolist() == [[[0, 0, 0], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert store.padded(store.positions).tolist() == [[0, 1], [0, 1]]


def test_evicting_frees_the_memory():
    store = new_store(1, 2, slack=16)
    key = torch.randn(1, 2, 400, DIM)
    store.append(key, key, [0], None)
    before = sum(t.untyped_storage().nbytes() for t in store.tensors)
    kept = torch.zeros(1, 2, 400, dtype=torch.bool)
    kept[0, 0, :100] = True
    kept[0, 1, :4] = True
    store.keep(kept, torch.zeros(1, 2, 400, 2), 16)
    after = sum(t.untyped_storage().nbytes() for t in store.tensors)
    slot, state, bounds = 4 * (DIM + DIM + 1), 4 * 2, 2 * 16
    assert after == (100 + 16 + 4 + 16) * slot + (100 + 4) * state + bounds
    assert before >= 800 * slot


def test_room_for_a_window_is_given_back_when_tokens_come_one_by_one():
    store = new_store(1, 2, slack=8)
    key = torch.randn(1, 2, 100, DIM)
    store.append(key, key, [0], None)
    kept = torch.zeros(1, 2, 100, dtype=torch.bool)
    kept[0, 0, :30], kept[0, 1, :70] = True, True
    store.keep(kept, torch.zeros(1, 2, 100, 2), 100)
    store.append(key[:, :, :60], key[:, :, :60], [100], None)
    assert store.capacity == [130, 170]
    store.append(key[:, :, :1], key[:, :, :1], [160], None)
    assert store.capacity == [98, 138]
    assert store.lengths == [91, 131]
    rows = [torch.cat([key[0, 0, :30], key[0, 0, :60], key[0, 0, :1]])]
    assert torch.equal(store.row(store.keys, 0), rows[0])
