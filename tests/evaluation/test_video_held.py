import pytest
import tiny
import torch

from transfer import NAMM, NAMMConfig
from transfer.attachment.memory import attach
from transfer.evaluation.video_held import held


@pytest.mark.parametrize(("policy", "floats"), [("recency", 0), ("h2o", 1), ("namm", 17)])
def test_tokens_not_scored_yet_have_no_state(policy, floats):
    torch.manual_seed(0)
    model = tiny.llama(vocabulary=128).eval()
    chosen = NAMM(NAMMConfig()) if policy == "namm" else policy
    is_video = torch.arange(117) < 60
    with attach(model, chosen, update_interval=64, budget=32) as memory, torch.no_grad():
        cache = memory.new_cache()
        for tokens in (112, *[1] * 5):
            model(torch.randint(128, (1, tokens)), cache=cache)
    row = held(cache, is_video)
    layer = cache.pruned[0]
    heads = len(cache.pruned) * layer.kv_heads
    pair = layer.store.keys[:1].nbytes + layer.store.values[:1].nbytes + 4
    # 64 tokens became 32, then 53 more came, of which the policy has not been shown the last 5; all
    # of them are text but the first 60 of the prompt.
    assert row["kept_tokens"] == 32 + 53
    assert row["video_bytes"] + row["text_bytes"] == heads * (85 * pair + 80 * 4 * floats)
    kept = row["kept_video_tokens"] * heads
    assert row["video_bytes"] == kept * (pair + 4 * floats)
    assert row["cache_bytes"] == cache.bytes() > row["video_bytes"] + row["text_bytes"]
