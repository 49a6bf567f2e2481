"""The convolutions of pictures, whichever axis their channels are on, and what config.json says."""

import json
from math import prod

import pytest
import torch
from transformers import DecisionTransformerConfig

from transfer.adapters.control_model import ControlModel, load_control_model, save_control_model
from transfer.adapters.pictures import (
    PictureDecisionTransformerModel,
    PictureEmbedding,
    is_picture,
)
from transfer.errors import UserError


def saved(folder, shape):
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=prod(shape), act_dim=2, hidden_size=8, n_layer=1, n_head=1, max_ep_len=10,
        n_positions=4, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    config.update({"picture": list(shape)})
    model, numbers = PictureDecisionTransformerModel(config).eval(), prod(shape)
    facts = (torch.zeros(numbers), torch.ones(numbers), (1.0,), "CartPole-v1", "scripted")
    control = ControlModel(model, *facts)
    save_control_model(control, folder)
    return control


def by_hand(embedding, pictures):
    """Of pictures [count, channels, height, width]."""
    first, _, second, _, third, _, _, linear = embedding.layers
    for layer, stride in ((first, 4), (second, 2), (third, 1)):
        pictures = torch.nn.functional.conv2d(pictures, layer.weight, layer.bias, stride).relu()
    return pictures.flatten(1) @ linear.weight.T + linear.bias


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_axis_of_the_channels_is_found(channels):
    pictures = torch.rand(5, channels, 52, 44)
    first = PictureEmbedding((channels, 52, 44), 6)
    last = PictureEmbedding((52, 44, channels), 6)
    last.load_state_dict(first.state_dict())
    expected = by_hand(first, pictures)
    torch.testing.assert_close(first(pictures.flatten(1)), expected)
    torch.testing.assert_close(last(pictures.movedim(1, -1).flatten(1)), expected)
    if channels == 1:
        grey = PictureEmbedding((52, 44), 6)
        grey.load_state_dict(first.state_dict())
        torch.testing.assert_close(grey(pictures.reshape(5, 1, -1)), expected[:, None])


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((36, 36), True),
        ((84, 84, 4), True),
        ((4, 84, 84), True),
        ((210, 160, 3), True),
        ((35, 36), False),
        ((36, 35, 3), False),
        ((3, 84, 35), False),
        ((4, 84, 84, 3), False),
        ((84,), False),
        ((), False),
    ],
)
def test_what_the_convolutions_can_take(shape, taken):
    assert is_picture(shape) == taken
    if taken:
        assert PictureEmbedding(shape, 2)(torch.rand(1, prod(shape))).shape == (1, 2)


def test_a_whole_screen_of_atari_is_saved_and_loaded(tmp_path):
    control, states = saved(tmp_path, (210, 160, 3)), torch.rand(1, 100_800)
    again = load_control_model(tmp_path)
    assert torch.equal(again.model.embed_state(states), control.model.embed_state(states))
    assert type(again.model) is PictureDecisionTransformerModel


@pytest.mark.parametrize(
    "wrong", [[40], [20, 72, 1], [40, 36, 2], [-40, -36, 1], [40.0, 36, 1], "40, 36", None, {}]
)
def test_a_picture_that_is_none_or_has_other_numbers(tmp_path, wrong):
    saved(tmp_path, (40, 36, 1))
    path = tmp_path / "config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"picture": wrong}))
    with pytest.raises(UserError, match=r"config\.json says picture .* and state_dim 1440; a pic"):
        load_control_model(tmp_path)


def test_weights_that_are_not_of_convolutions(tmp_path):
    saved(tmp_path, (40, 36, 1))
    path = tmp_path / "config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({name: said[name] for name in said if name != "picture"}))
    with pytest.raises(UserError, match=r"lack 'embed_state\.bias'"):
        load_control_model(tmp_path)
