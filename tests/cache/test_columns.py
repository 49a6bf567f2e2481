import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.cache.columns import Columns
from transfer.errors import UserError

calls = st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), min_size=1, max_size=6)


@given(calls=calls, seed=st.integers(0, 1000))
def test_columns_and_tokens_are_found_again(calls, seed):
    random = torch.Generator().manual_seed(seed)
    columns, real, shown = Columns(), [[], []], [[], []]
    for new, padded, dropped in calls:
        if dropped:
            visible = torch.rand(2, columns.seen, generator=random) < 0.7
            shown = [[s and v for s, v in zip(*both)] for both in zip(shown, visible.tolist())]
            columns = columns.without(torch.tensor(shown).view(2, -1).bool())
        valid = torch.rand(2, new, generator=random) < 0.5 if padded else torch.ones(2, new).bool()
        columns = columns.followed_by(new, valid if padded else None)
        real = [own + row for own, row in zip(real, valid.tolist())]
        shown = [own + row for own, row in zip(shown, valid.tolist())]
    for b, own in enumerate(real):
        at = [column for column, one in enumerate(own) if one]
        tokens = torch.arange(len(at), dtype=torch.int32)
        assert columns.of(tokens, b).tolist() == at
    assert columns.hidden(2).tolist() == [[not s for s in own] for own in shown]
    assert columns.chosen([1]).hidden(1).tolist() == columns.hidden(2)[1:].tolist()
    now = torch.tensor(shown).view(2, -1).bool()
    assert not columns.newly_hidden(now)
    if now.any():
        assert columns.newly_hidden(torch.zeros_like(now))
    if not now.all():
        with pytest.raises(UserError, match="an earlier mask hid"):
            columns.newly_hidden(torch.ones_like(now))
