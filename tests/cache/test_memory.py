"""What the allocator really hands out, temporary tensors included."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from transfer import NAMM
from transfer.cache.footprint import LayerShape, peak
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.policies import get_policy

SHAPE = LayerShape(batch=1, heads=4, kv_heads=2, dim=64, dtype=torch.float32)
N_UP, KEPT = 256, 512


def pruned_layer() -> PrunedLayer:
    policy = get_policy("namm", namm=NAMM.from_pretrained("recall"))
    return PrunedLayer(Pruning(policy, N_UP, KEPT), 0)


def read(layer: PrunedLayer, tokens: int, chunk: int) -> None:
    for _ in range(0, tokens, chunk):
        key = torch.randn(1, 2, chunk, 64)
        layer.update(key, key)
        layer.attend(torch.randn(1, 4, chunk, 64), key, key, None, 0.125)


def allocated(run) -> tuple[int, int]:
    """Bytes in use at the peak of a call, and what is left of them after it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    assert changes
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most, now


@pytest.mark.parametrize("chunk", [N_UP, 4 * N_UP])
def test_a_longer_prompt_takes_no_more_memory(chunk):
    # What is made once for all layers, such as the DFT's table.
    read(pruned_layer(), N_UP, N_UP)
    peaks = []
    for tokens in (4096, 16384):
        layer = pruned_layer()
        most, _ = allocated(lambda layer=layer, tokens=tokens: read(layer, tokens, chunk))
        peaks.append(most)
        # The cache itself: kept tokens and one window.
        assert layer.peak_bytes == peak(SHAPE, layer.pruning, tokens).total
    assert peaks[0] == peaks[1]
    # Beyond it: a chunk's queries, keys and output, and the blocks of attention that features are
    # made of.
    inputs = 4 * chunk * 64 * 4 * 4
    assert peaks[1] < layer.peak_bytes + inputs + 4e6
    assert 4 * layer.peak_bytes < SHAPE.full_bytes(16384)


def test_ten_thousand_steps_of_decoding_leave_nothing_behind():
    layer = pruned_layer()
    read(layer, 2048, N_UP)
    sizes = []
    while layer.seen < 2048 + 10_000:
        read(layer, N_UP, 1)
        sizes.append(layer.bytes())
    assert len(set(sizes)) == 1
    assert layer.peak_bytes == peak(SHAPE, layer.pruning, 2048).total


def test_what_the_allocator_has_given_out_is_the_layer_and_no_more():
    read(pruned_layer(), N_UP, N_UP)
    layer = pruned_layer()
    _, left = allocated(lambda: (read(layer, 2048, N_UP), read(layer, 2 * N_UP, 1)))
    assert left == layer.bytes()
