"""What is taken down is what the model's attention saw, and gradients are those of its outputs."""

import pytest
import tiny
import torch
from torch.nn.functional import scaled_dot_product_attention

from transfer.attachment.adapter import get_adapter
from transfer.errors import UserError
from transfer.replay.recording import full_attention_layers, record_layers


def recorded(model, rows=2, tokens=12):
    model = model.double()
    torch.manual_seed(3)
    ids = torch.randint(1, 97, (rows, tokens))
    embeddings = model.get_input_embeddings()(ids).detach()

    def objective(embeddings):
        logits = model(inputs_embeds=embeddings, use_cache=False).logits
        return logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).sum()

    return record_layers(get_adapter(model), embeddings, objective), objective, embeddings


def outputs(states):
    return scaled_dot_product_attention(
        states.query, states.key, states.value, is_causal=True, scale=states.scale, enable_gqa=True
    )


@pytest.mark.parametrize("layer", [0, 2])
def test_the_gradient_tells_what_a_small_change_of_an_output_does(layer):
    # (Llama's norms compute in single precision, whatever the model's is.)
    model = tiny.gpt2()
    layers, objective, embeddings = recorded(model)
    states, step = layers[layer], 1e-6
    change = torch.randn(states.gradient.shape, dtype=torch.float64)
    flat = change.transpose(1, 2).flatten(2) * step
    projection = model.transformer.h[layer].attn.c_proj
    values = []
    for sign in (1, -1):
        hook = projection.register_forward_pre_hook(lambda _, given, s=sign: (given[0] + s * flat,))
        with torch.no_grad():
            values.append(objective(embeddings).item())
        hook.remove()
    expected = (change * states.gradient).sum().item()
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_queries_keys_and_values_give_the_layers_output():
    model = tiny.llama()
    seen = {}
    for index, layer in enumerate(model.model.layers):
        layer.self_attn.o_proj.register_forward_pre_hook(
            lambda _, given, i=index: seen.setdefault(i, given[0].detach())
        )
    layers, _, _ = recorded(model)
    assert list(layers) == [0, 1, 2]
    for index, states in layers.items():
        assert torch.allclose(outputs(states).transpose(1, 2).flatten(2), seen[index], atol=1e-12)


def test_the_model_is_as_it_was_afterwards():
    model = tiny.gpt2()
    before = model.config._attn_implementation
    recorded(model)
    assert model.config._attn_implementation == before
    assert not any(hasattr(module, "transfer_recorder") for module in model.modules())


def test_sliding_windows_are_left_out():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=3, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=4, pad_token_id=0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    assert full_attention_layers(get_adapter(model)) == [1]
    assert list(recorded(model)[0]) == [1]


def test_what_is_not_finite_is_refused():
    model = tiny.llama()
    embeddings = torch.randn(1, 8, 64)
    with pytest.raises(UserError, match="not finite; record it with another --dtype"):
        record_layers(
            get_adapter(model),
            embeddings,
            lambda x: model(inputs_embeds=x, use_cache=False).logits.sum() * torch.inf,
        )
