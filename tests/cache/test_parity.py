"""The pruned cache, driven with the queries and keys of the original implementation's runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from transfer import NAMM, NAMMConfig, attach
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.policies.namm import NAMMPolicy

DATA = Path(__file__).parents[1] / "data"


def published(case) -> NAMM:
    pieces = ["p_W_qkv", "p_b_qkv", "p_W_o", "p_b_o", "p_w_score", "p_b_score"]
    flat = np.concatenate([case[name].ravel() for name in pieces if name in case.files])
    config = NAMMConfig(hidden=case["p_W_o"].shape[0], bias="p_b_qkv" in case.files)
    std = torch.from_numpy(case["norm_var"]).sqrt()
    return NAMM(config, torch.from_numpy(flat), torch.from_numpy(case["norm_mean"]), std)


class Recorded(NAMMPolicy):
    def score(self, window, state):
        scores, state = super().score(window, state)
        SCORES.append((scores, state))
        return scores, state


SCORES: list = []


@pytest.mark.parametrize("number", [0, 1, 2, 6])
@pytest.mark.parametrize("chunks", ["whole", "odd"])
def test_layers_evict_what_the_original_evicted(number, chunks):
    case = np.load(DATA / f"namm_case_{number}.npz")
    meta = json.loads(str(case["meta"]))
    update_interval = meta["chunk"]
    pruning = Pruning(Recorded(published(case)), update_interval, eviction="reference")
    for index in range(meta["layers"]):
        layer = PrunedLayer(pruning, index)
        for update in range(meta["updates"]):
            prefix = f"u{update}_l{index}_"
            query = torch.from_numpy(case[prefix + "q"])[None]
            key = torch.from_numpy(case[prefix + "k_new"])[None]
            SCORES.clear()
            cuts = [update_interval] if chunks == "whole" else [7, 1, 1, update_interval - 9]
            for q, k in zip(query.split(cuts, 2), key.split(cuts, 2)):
                layer.update(k, k)
                layer.attend(q, k, k, None, key.shape[-1] ** -0.5)
            ((scores, state),) = SCORES
            expected = torch.from_numpy(case[prefix + "scores"])
            # The original overwrites the newest token's score with the largest number.
            torch.testing.assert_close(scores[0, :, :-1], expected[:, :-1], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                state[0], torch.from_numpy(case[prefix + "ema"]), rtol=1e-4, atol=1e-5
            )
            kept = torch.stack(layer.positions())
            assert kept.tolist() == case[prefix + "pos_out"].tolist()


def test_generate_through_llama_equals_the_original_end_to_end():
    case = np.load(DATA / "e2e_case_0.npz")
    meta = json.loads(str(case["meta"]))
    config = {k: v for k, v in meta["llama_config"].items() if k not in ("transformers_version",)}
    model = LlamaForCausalLM(LlamaConfig(**config)).eval()
    weights = {k[2:]: torch.from_numpy(case[k]) for k in case.files if k.startswith("w_")}
    model.load_state_dict(weights)
    model.generation_config.eos_token_id = None
    std = torch.from_numpy(case["norm_var"]).sqrt()
    namm = NAMM(
        NAMMConfig(),
        torch.from_numpy(case["params_flat"]),
        torch.from_numpy(case["norm_mean"]),
        std,
    )
    prompt = torch.from_numpy(case["prompt_ids"])[None].long()
    with attach(model, namm, update_interval=meta["delay"], eviction="reference") as memory:
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            cache=memory.new_cache(),
            max_new_tokens=meta["gen"],
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert out.sequences[0, prompt.shape[1] :].tolist() == case["generated"].tolist()
    logits = torch.cat(out.logits)
    torch.testing.assert_close(logits, torch.from_numpy(case["logits"]), rtol=1e-4, atol=1e-4)
    # 200 + 59 tokens went in: 4 updates at 64, then 3 more tokens in every head.
    assert [layer[0][0] for layer in memory.cache.kept()] == [k + 3 for k in meta["K"][-1]]
    assert case["generated"].tolist() != case["generated_full_cache"].tolist()
