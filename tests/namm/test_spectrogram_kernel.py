"""The spectrogram's kernel against the formula; without a GPU it runs in Triton's interpreter."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from ragged_rows import Store, Window, bfloat16_products  # noqa: F401

from transfer.namm.features.log import SLOW
from transfer.namm.features.spec import slower
from transfer.namm.spectrogram import HOP, ema_spectrogram
from transfer.namm.spectrogram_kernel import window_spectrogram

pytestmark = pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION is unset")

GAMMA = 0.97


def check_window(window):
    close = {"rtol": 2e-5, "atol": 5e-6, "check_dtype": False, "check_device": False}
    spectrogram = window_spectrogram(window.ragged, GAMMA)
    assert spectrogram.dtype == torch.float32
    torch.testing.assert_close(spectrogram, ema_spectrogram(window.attention, GAMMA), **close)


@pytest.mark.parametrize(
    ("dtype", "dim"),
    [(torch.float32, 64), (torch.float32, 80), (torch.float16, 16), (torch.bfloat16, 80)],
    ids=str,
)
@pytest.mark.parametrize(("groups", "queries", "first"), [(1, 64, 90), (4, 32, 200)])
def test_window_features_of_uneven_rows(groups, queries, first, dim, dtype):
    check_window(Window(Store([37, 0, 130, 1], dim, 8, dtype), groups, queries, first))


def test_the_first_window_has_none_before_it():
    check_window(Window(Store([48, 5], 16, 16), 2, HOP + 48, -HOP))


def test_a_second_decay_is_a_second_launch():
    window = Window(Store([37, 5], 16, 16), 1, HOP + 32, 90)
    asked = SimpleNamespace(queries=32, ragged=lambda carried: window.ragged, fold=print)
    attention = window.attention
    state = torch.rand(1, *attention.shape[::2], 34, device=attention.device)
    fading = torch.tensor([GAMMA] * 17 + [slower(GAMMA)] * 17, device=state.device) ** 32
    expected = state * fading + ema_spectrogram(attention, GAMMA, slower(GAMMA))
    close = {"rtol": 2e-5, "atol": 5e-6, "check_dtype": False}
    torch.testing.assert_close(SLOW.accumulate(asked, state, GAMMA), expected, **close)


@settings(max_examples=6)
@given(
    lengths=st.lists(st.integers(0, 100), min_size=1, max_size=3).filter(max),
    groups=st.sampled_from([1, 3]),
    hops=st.integers(2, 4),
    seed=st.integers(0, 100),
)
def test_window_features_of_any_rows(lengths, groups, hops, seed):
    torch.manual_seed(seed)
    check_window(Window(Store(lengths, 16, 16), groups, hops * HOP, 80))
