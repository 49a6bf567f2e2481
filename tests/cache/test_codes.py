"""What a byte holds of a number, and that fading numbers go on fading."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.cache.codes import SLOWEST, decoded, encoded

BYTE = torch.uint8


@given(st.floats(2.2e-8, 16))
def test_a_number_comes_back_within_four_per_cent(number):
    [back] = decoded(encoded(torch.tensor([number]), BYTE), torch.float32).tolist()
    assert back == pytest.approx(number, rel=0.0411)


def test_what_is_nothing_comes_back_as_nothing_and_what_is_too_much_as_16():
    back = decoded(encoded(torch.tensor([0.0, 1e-9, 16.0, 17.0, torch.inf]), BYTE), torch.float64)
    assert back.tolist() == [0, 0, 16, 16, 16]


def test_every_byte_is_a_number_of_its_own():
    codes = torch.arange(256).to(BYTE)
    assert torch.equal(encoded(decoded(codes, torch.float32), BYTE), codes)


@pytest.mark.parametrize(("gamma", "queries"), [(0.99, 16), (0.99, 64), (0.9, 16)])
def test_what_fades_is_as_much_after_many_small_steps_as_after_few(gamma, queries):
    stored = encoded(torch.tensor([12.0, 0.3]), BYTE)
    for _ in range(10):
        stored = encoded(decoded(stored, torch.float32) * gamma**queries, BYTE)
    found = decoded(stored, torch.float32) / torch.tensor([12.0, 0.3])
    expected = gamma ** (10 * queries)
    torch.testing.assert_close(found, torch.full((2,), expected), rtol=0.05, atol=1e-6)


def test_the_slowest_decay_fades_a_step_in_16_queries():
    codes = torch.arange(2, 256).to(BYTE)
    faded = encoded(decoded(codes, torch.float32) * SLOWEST**16, BYTE)
    assert torch.equal(faded, codes - 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_other_kinds_are_stored_as_they_are(dtype):
    state = torch.rand(3, 4, dtype=torch.float64)
    assert encoded(state, dtype).dtype == dtype
    assert torch.equal(decoded(encoded(state, dtype), torch.float64), state.to(dtype).double())
