"""Too many numbers to keep: what is kept is all of them at first, then a fair part."""

import numpy as np
import pytest
import torch

from transfer.evaluation.sample import Sample


def added(most, parts):
    sample = Sample(most)
    for part in parts:
        sample.add(part)
    return sample


def test_while_they_fit_all_are_kept():
    numbers = torch.randn(1000).float()
    kept = added(1000, numbers.split(7)).values()
    assert torch.equal(kept.sort().values, numbers.double().sort().values)
    assert torch.equal(added(1, [torch.tensor([3.0])]).values(), torch.tensor([3.0]).double())


def test_of_more_it_has_the_quantiles_in_constant_memory():
    most, held = 2**16, []
    # In order, so that whoever kept the first or the last of them would be far off.
    numbers, sample = torch.arange(20 * most).double().sqrt(), Sample(most)
    for part in numbers.split(5000):
        sample.add(part)
        held.append(sum(len(values) for _, values in sample._parts))
    assert max(held) <= 2 * most and len(sample.values()) == most
    for share in (0.02, 0.25, 0.5, 0.9):
        below = float((numbers < np.quantile(sample.values().numpy(), share)).double().mean())
        # A sixteenth of the numbers of a calibration: four times as far off.
        assert below == pytest.approx(share, abs=4 * 0.002)


def test_what_is_kept_is_the_same_each_time():
    parts = torch.randn(500, 20).unbind()
    assert torch.equal(added(100, parts).values(), added(100, parts).values())
