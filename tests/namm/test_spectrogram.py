import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transfer.namm.spectrogram import BINS, HOP, WINDOW, decay, dft_matrix, ema_spectrogram


def _attention(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def _by_stft(attention: torch.Tensor, gamma: float) -> torch.Tensor:
    columns = attention.mT
    window = torch.hann_window(WINDOW, periodic=True, dtype=attention.dtype)
    spectrum = torch.stft(
        columns.reshape(-1, columns.shape[-1]),
        n_fft=WINDOW,
        hop_length=HOP,
        window=window,
        center=False,
        return_complex=True,
    ).abs()
    frames = spectrum.shape[-1]
    per_hop = gamma**HOP
    weights = torch.tensor(
        [(1 - per_hop) * per_hop ** (frames - 1 - t) for t in range(frames)], dtype=torch.float64
    )
    return (spectrum * weights).sum(-1).unflatten(0, columns.shape[:-1])


@given(
    seed=st.integers(0, 999),
    lead=st.sampled_from([(), (1,), (3,), (2, 3)]),
    hops=st.integers(1, 6),
    tokens=st.integers(1, 40),
    gamma=st.sampled_from([0.9, 0.99, 0.9999]),
)
def test_equals_the_magnitude_of_the_stft_weighted_by_age(seed, lead, hops, tokens, gamma):
    attention = _attention(seed, *lead, HOP + HOP * hops, tokens)
    features = ema_spectrogram(attention, gamma)
    assert features.shape == (*lead, tokens, BINS)
    torch.testing.assert_close(features, _by_stft(attention, gamma), rtol=0, atol=1e-10)


def test_large_inputs_are_transformed_in_blocks_with_the_same_result():
    attention = _attention(1, 5, 528, 160)
    torch.testing.assert_close(
        ema_spectrogram(attention, 0.99), _by_stft(attention, 0.99), rtol=0, atol=1e-10
    )


def test_float32_agrees_with_float64():
    attention = _attention(2, 2, 528, 32)
    features = ema_spectrogram(attention.float(), 0.99)
    assert features.dtype == torch.float32
    exact = ema_spectrogram(attention, 0.99)
    torch.testing.assert_close(features.double(), exact, rtol=1e-5, atol=1e-6)


def test_a_view_with_any_strides_is_read_correctly():
    attention = _attention(3, 48, 2, 20)
    view = attention.transpose(0, 1)[:, :, ::3]
    torch.testing.assert_close(
        ema_spectrogram(view, 0.99), ema_spectrogram(view.contiguous(), 0.99), rtol=0, atol=1e-12
    )


@given(seed=st.integers(0, 999), chunks=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_streaming_in_chunks_equals_one_call(seed, chunks):
    hops, tokens, gamma = sum(chunks), 7, 0.99
    attention = _attention(seed, 2, HOP * hops, tokens)
    carried = attention.new_zeros(2, HOP, tokens)
    features = attention.new_zeros(2, tokens, BINS)
    for new in attention.split([HOP * chunk for chunk in chunks], dim=1):
        rows = torch.cat([carried, new], 1)
        features = ema_spectrogram(rows, gamma) + decay(gamma, new.shape[1]) * features
        carried = rows[:, -HOP:]
    whole = torch.cat([attention.new_zeros(2, HOP, tokens), attention], 1)
    torch.testing.assert_close(features, ema_spectrogram(whole, gamma), rtol=1e-12, atol=1e-14)


def test_constant_attention_has_only_the_bins_of_the_hann_window():
    features = ema_spectrogram(torch.ones(HOP + 4096, 1, dtype=torch.float64), 0.99)
    expected = torch.zeros(BINS, dtype=torch.float64)
    expected[:2] = torch.tensor([16.0, 8.0])
    torch.testing.assert_close(features[0], expected, rtol=0, atol=1e-10)


def test_dft_rows_are_real_parts_then_imaginary_parts():
    signal = torch.randn(WINDOW, dtype=torch.float64)
    hann = torch.hann_window(WINDOW, dtype=torch.float64)
    spectrum = torch.fft.rfft(signal * hann)
    rows = dft_matrix(torch.float64, torch.device("cpu")) @ signal
    torch.testing.assert_close(rows[:BINS], spectrum.real, rtol=0, atol=1e-12)
    torch.testing.assert_close(rows[BINS:], spectrum.imag[1:-1], rtol=0, atol=1e-12)


def test_decay_of_a_full_window():
    assert decay(0.99, 512) == pytest.approx(0.005824, rel=1e-4)


@pytest.mark.parametrize("rows", [0, 15, 16, 33, 40])
def test_rows_that_are_no_whole_hops_are_refused(rows):
    with pytest.raises(ValueError, match=f"{rows} rows"):
        ema_spectrogram(torch.rand(rows, 4), 0.99)
