import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.cache.pieces import assembled, cut


@given(
    at=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    interval=st.integers(1, 9),
    new=st.integers(1, 30),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_token_comes_once_in_order_and_no_update_falls_inside(
    at, interval, new, padded, seed
):
    torch.manual_seed(seed)
    valid = torch.rand(len(at), new) < 0.6 if padded else torch.ones(len(at), new).bool()
    states = torch.arange(len(at) * 2 * new).view(len(at), 2, new, 1).double() + 1
    pieces = cut(at, interval, new, valid if padded else None, states.device)
    seen = [[] for _ in at]
    for piece in pieces:
        part = piece.of(states)
        for b, count in enumerate(piece.counts):
            assert (at[b] + len(seen[b])) % interval + count <= interval
            seen[b] += part[b, 0, part.shape[2] - count :, 0].tolist()
    assert seen == [states[b, 0, valid[b], 0].tolist() for b in range(len(at))]
    out = assembled(pieces, [piece.of(states) for piece in pieces], states)
    assert torch.equal(out, states * valid[:, None, :, None])
