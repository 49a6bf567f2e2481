"""The example's scorer does what none of ours does, and obeys the rule of padding."""

import runpy
from pathlib import Path

import pytest
import torch

from transfer.namm.scorers import split

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(params=["add_scorer.py", "plugin/transfer_plugin_example/scorer.py"])
def scores(request):
    scorer = runpy.run_path(str(EXAMPLES / request.param))["Rivals"]()
    shapes = scorer.shapes(3, 0, True)
    # s = x0 + 2 x1 - x2 + 0.5; the rival counts -1 for one member and nothing for the other.
    vectors = torch.tensor([[1.0, 2.0, -1.0, 0.5, -1.0], [1.0, 2.0, -1.0, 0.5, 0.0]])
    parameters = split(vectors, shapes)
    return lambda features: scorer.scores(features.expand(2, -1, -1, -1), parameters)


def test_a_token_is_judged_beside_the_best_of_the_newer_ones(scores):
    features = torch.tensor([[0.0, 0, 0], [0, 0, 3], [1, 1, 0], [0, 0, 0.0]])
    beside, alone = scores(features[None, None])[:, 0]
    assert alone.tolist() == [0.5, -2.5, 3.5, 0.5]
    assert beside.tolist() == [0.5 - 3.5, -2.5 - 3.5, 0.0, 0.0]


def test_what_stands_to_the_left_is_not_seen(scores):
    features = torch.randn(1, 2, 9, 3)
    padded = torch.cat([torch.full((1, 2, 4, 3), 1e6), features], 2)
    torch.testing.assert_close(scores(padded)[..., 4:], scores(features))
