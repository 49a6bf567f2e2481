import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.cache.eviction import select


def batch_of(lengths, tokens):
    column = torch.arange(tokens)
    return (column >= tokens - torch.tensor(lengths)[:, None]).view(2, 2, tokens)


@given(
    lengths=st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(max),
    seed=st.integers(0, 999),
    budget=st.none() | st.tuples(st.integers(1, 12), st.integers(1, 12)),
    eviction=st.sampled_from(["exact", "reference"]),
)
def test_select_equals_its_definition(lengths, seed, budget, eviction):
    tokens = max(lengths)
    # Few distinct values, so that ties happen.
    scores = torch.randint(-3, 3, (4, tokens), generator=torch.Generator().manual_seed(seed))
    valid = batch_of(lengths, tokens)
    kept = select(
        scores.float().view(2, 2, tokens),
        valid,
        0.0,
        None if budget is None else torch.tensor(budget),
        eviction,
    ).view(4, tokens)
    real = [list(range(tokens - n, tokens)) for n in lengths]
    above = [[j for j in real[r] if scores[r, j] >= 0 or j == tokens - 1] for r in range(4)]
    for row in range(4):
        if budget is not None:
            count = budget[row // 2]
        elif eviction == "reference":
            sequence = row // 2 * 2
            count = max(map(len, above[sequence : sequence + 2]))
        else:
            assert kept[row].nonzero()[:, 0].tolist() == above[row]
            continue
        order = sorted(real[row], key=lambda j: (j == tokens - 1, int(scores[row, j]), j))
        expected = sorted(order[len(order) - min(count, len(order)) :])
        assert kept[row].nonzero()[:, 0].tolist() == expected


def test_the_newest_token_stays_however_bad_its_score():
    scores = torch.tensor([[[5.0, -9.0]]])
    valid = torch.ones(1, 1, 2, dtype=torch.bool)
    assert select(scores, valid, 0.0, None, "exact").tolist() == [[[True, True]]]
    assert select(scores, valid, 0.0, torch.tensor([1]), "exact").tolist() == [[[False, True]]]
    assert select(-scores.abs(), valid, 0.0, None, "exact").tolist() == [[[False, True]]]


def test_a_score_that_is_not_a_number_leaves():
    scores = torch.tensor([[[torch.nan, 1.0, 0.0]]])
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    assert select(scores, valid, 0.0, None, "exact").tolist() == [[[False, True, True]]]
