"""A feature and a scorer of somebody else, a file each, go every way that the built-in ones go."""

import json

import pytest
import tiny
import torch

from transfer import NAMM, NAMMConfig, attach
from transfer.errors import UserError
from transfer.evolution.config import EvolveConfig
from transfer.evolution.evolve import evolve
from transfer.namm.features import Feature
from transfer.plugins import FEATURES, register

CONFIG = NAMMConfig(features="received:RECEIVED", scorer="linear:LINEAR", gamma=0.9)


def namm():
    """Scores a token by its attention alone: above 0 where it received more than 0.3."""
    vector = torch.zeros(CONFIG.size)
    vector[8], vector[10] = 1, -0.3
    return NAMM(CONFIG, vector)


def test_lengths_are_those_of_the_feature_and_the_scorer():
    assert CONFIG.size == 8 + 2 + 1
    assert (namm().mean.shape, namm().std.shape) == ((2,), (2,))
    with pytest.raises(UserError, match="mean has 17 numbers, its configuration needs 2"):
        NAMM(CONFIG, None, torch.zeros(17))


@pytest.mark.parametrize("update_interval", [16, 20, 7])
def test_it_prunes_at_any_interval_however_the_tokens_come(update_interval):
    model, ids = tiny.llama(layers=1).double(), torch.randint(3, 97, (1, 60))
    kept = []
    for pieces in ([60], [3, 30, 27], [1] * 60):
        with attach(model, namm(), update_interval) as memory, torch.no_grad():
            cache = memory.new_cache()
            for piece in ids.split(pieces, 1):
                model(piece, cache=cache)
        kept.append([row.tolist() for row in cache.pruned[0].positions()])
    assert kept[0] == kept[1] == kept[2]
    assert 4 <= sum(map(len, kept[0])) < 60


def test_what_stays_after_the_first_update_is_what_received_enough():
    model, ids = tiny.llama(layers=1), torch.randint(3, 97, (1, 32))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        rows = model(ids, output_attentions=True).attentions[0].unflatten(1, (2, 4)).mean(2)[0]
        model.set_attn_implementation("sdpa")
        with attach(model, namm(), 32) as memory:
            model(ids, cache=memory.new_cache())
    received = torch.einsum("hqt,q->ht", rows, 0.9 ** torch.arange(31.0, -1, -1))
    held = memory.cache.pruned[0].positions()
    for head in range(2):
        expected = {*(received[head] > 0.3).nonzero().flatten().tolist(), 31}
        assert set(held[head].tolist()) == expected
    assert memory.cache.pruned[0].store.state.shape[-1] == 1


def test_a_checkpoint_carries_the_names(tmp_path):
    made = namm()
    made.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    assert (told["features"], told["scorer"]) == ("received:RECEIVED", "linear:LINEAR")
    loaded = NAMM.from_pretrained(tmp_path)
    assert loaded.config == made.config
    features, age = torch.rand(2, 9, 1), torch.arange(9).flip(0).expand(2, -1)
    assert torch.equal(loaded.score(features, age), made.score(features, age))


def test_it_is_evolved(tmp_path):
    config = EvolveConfig(
        out=tmp_path / "run", tasks=("recall",), features=CONFIG.features, scorer=CONFIG.scorer,
        generations=1, population=4, documents=1, lengths=(96,), budget=(24,),
        update_interval=(20,), validate_every=1, validation_documents=1,
    )  # fmt: skip
    evolved = evolve(config)
    assert evolved.vector.shape == (1, 11)
    assert (evolved.std > 0).all() and not torch.equal(evolved.mean, torch.zeros(2))
    assert NAMM.from_pretrained(tmp_path / "run" / "namm").config == evolved.config
    assert "scorer linear:LINEAR" in (tmp_path / "run" / "namm" / "CARD.md").read_text()


class NoWidth(Feature):
    state_size = 1

    def accumulate(self, window, state, gamma):
        return state


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": "received:RECIEVED"}, "feature 'received:RECIEVED' cannot be imported"),
        ({"features": "linear:LINEAR"}, "must be an instance of transfer.namm.features:Feature"),
        ({"features": "nowhere:X"}, "'nowhere:X' cannot be imported"),
        ({"scorer": "received:RECEIVED"}, "must be an instance of transfer.namm.scorers:Scorer"),
    ],
)
def test_what_is_no_feature_or_scorer_is_refused(fields, said):
    with pytest.raises(UserError, match=said):
        NAMMConfig(**fields)


def test_a_feature_that_does_not_say_its_width_is_refused():
    with pytest.raises(UserError, match="feature 'narrow' lacks width"):
        register("feature", "narrow", NoWidth())
    assert "narrow" not in FEATURES
