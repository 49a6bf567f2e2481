"""A NAMM that reads more scores as before, until its new weights move."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import NAMM, NAMMConfig
from transfer.errors import UserError
from transfer.namm.features.joined import get_feature, parts_of
from transfer.namm.scorers import Scorer
from transfer.namm.widening import widened
from transfer.plugins import SCORERS, register

SINGLE = [
    "log",
    "slow",
    "relative",
    "relative_slow",
    "rates",
    "ages",
    "place",
    "sink",
    "norms",
    "unlike",
]


def a_namm(features, scorer="bam", population=1, bias=True):
    config = NAMMConfig(features=features, scorer=scorer, hidden=3, bias=bias, gamma=0.9)
    torch.manual_seed(0)
    width = get_feature(features).width
    numbers = torch.randn(population, config.size) * 0.3
    return NAMM(config, numbers, torch.randn(width), torch.rand(width) + 0.5)


def wider(namm, features):
    width = get_feature(features).width
    return widened(namm, features, torch.randn(width), torch.rand(width) + 0.5)


def held(feature, states):
    """The state of a feature, of each family as much as its parts read."""
    most = {}
    for part in sorted(parts_of(feature), key=lambda part: part.state_size):
        most[part.family] = part.state_size
    return torch.cat([states[family][..., :size] for family, size in most.items()], -1)


@settings(max_examples=40)
@given(
    old=st.lists(st.sampled_from(SINGLE), min_size=1, max_size=3, unique=True),
    more=st.lists(st.sampled_from(SINGLE), max_size=4, unique=True),
    scorer=st.sampled_from(["bam", "mlp", "linear"]),
    bias=st.booleans(),
    data=st.data(),
)
def test_scores_are_what_they_were(old, more, scorer, bias, data):
    narrow = a_namm("+".join(old), scorer, population=2, bias=bias)
    names = data.draw(st.permutations(list(dict.fromkeys([*old, *more]))))
    wide = wider(narrow, "+".join(names))
    assert (wide.config.gamma, wide.population) == (0.9, 2)
    told = {
        "age": torch.randint(1, 9, (4, 15)).cumsum(-1).flip(-1),
        "norms": torch.rand(4, 15, 2) + 0.1,
        "unlike": torch.rand(4, 15),
    }
    # (The state of slower decays begins with that of the others.)
    states = {get_feature(name).family: torch.rand(4, 15, 34).double() for name in SINGLE}
    before = narrow.score(held(narrow.feature, states), **told)
    torch.testing.assert_close(wide.score(held(wide.feature, states), **told), before)
    assert before.abs().max() > 0.01


def test_the_shipped_namm_goes_on_as_a_universal_one():
    narrow = NAMM.from_pretrained("recall")
    wide = wider(narrow, "universal")
    assert wide.config.size == 10692
    assert torch.equal(wide.mean[:17], narrow.mean) and torch.equal(wide.std[:17], narrow.std)
    state, age = torch.rand(3, 50, 34), torch.arange(50).flip(0).expand(3, -1)
    before = narrow.score(state[..., :17], age)
    torch.testing.assert_close(wide.score(state, age), before, rtol=1e-6, atol=1e-6)
    wide.vector[:, -17] += 1
    assert not torch.allclose(NAMM(wide.config, wide.vector).score(state, age), before)


def test_what_is_left_out_is_named():
    with pytest.raises(UserError, match=r"features universal leave out some of spec.*spec\+univ"):
        wider(a_namm("spec"), "universal")
    with pytest.raises(UserError, match="features log leave out some of log"):
        wider(a_namm("log+ages"), "log")


class Pairs(Scorer):
    def shapes(self, width, hidden, bias):
        return {"pairs": (width * (width + 1) // 2,)}

    def scores(self, features, parameters):
        return features.sum(-1)


def test_a_scorer_whose_pieces_are_no_blocks_of_its_width_is_refused():
    if "pairs" not in SCORERS:
        register("scorer", "pairs", Pairs())
    with pytest.raises(UserError, match=r"piece of shape \[55\] for 10 inputs"):
        wider(a_namm("place", scorer="pairs"), "place+sink")


def test_the_namm_that_reads_keys_is_made_as_its_card_says():
    shipped = NAMM.from_pretrained("keys")
    [recipe] = re.findall(r"```python\n(.*?)```", str(shipped.card), re.DOTALL)
    made = {}
    exec(recipe, made)
    assert shipped.config == made["namm"].config
    for name, tensor in shipped.tensors.items():
        assert torch.equal(tensor, made["namm"].tensors[name])
