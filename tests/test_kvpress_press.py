"""A NAMM in kvpress keeps what it keeps here; run by a python that has kvpress, where one is named.

`KVPRESS_PYTHON` names it, as for the benchmark; docs/how-to/kvpress.md says how to make one.
"""

import json
import subprocess
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from benchmarks.kvpress import kvpress_python
from transfer import NAMM, attach
from transfer.errors import UserError

TOKENS = 160


def python():
    """Of an environment with kvpress and this package."""
    try:
        found = kvpress_python()
    except UserError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [found, "-c", "import transfer.kvpress"], capture_output=True, text=True, cwd="/"
    )
    if done.returncode:
        pytest.skip(f"{found} cannot import transfer.kvpress: {done.stderr.splitlines()[-1]}")
    return found


def save(model, folder):
    """A model and a tokenizer that has a word for each of its tokens."""
    words = {f"w{number}": number for number in range(2, model.config.vocab_size)}
    plain = Tokenizer(WordLevel({"<pad>": 0, "<s>": 1, **words}, unk_token="<pad>"))
    plain.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", pad_token="<pad>", unk_token="<pad>"
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


@torch.no_grad()
def test_it_keeps_what_a_cache_keeps_and_answers_alike(tmp_path):
    where, model = python(), tiny.llama()
    ids = torch.cat([torch.tensor([[1]]), torch.randint(2, 97, (1, TOKENS - 1))], 1)
    tokenizer = save(model, tmp_path / "model")
    save_file({"ids": ids}, tmp_path / "ids")
    worker = Path(__file__).with_name("press_worker.py")
    words = [where, worker, tmp_path / "model", tmp_path / "ids", tmp_path / "keys"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    told, theirs = json.loads(done.stdout.splitlines()[-1]), load_file(tmp_path / "keys")

    namm = NAMM.from_pretrained("recall")
    with attach(model, namm, update_interval=TOKENS, budget=TOKENS // 4) as memory:
        model(ids, cache=memory.new_cache())
        for layer in memory.cache.pruned:
            for head in range(layer.kv_heads):
                own = layer.store.row(layer.store.keys, head)
                distances = (own[:, None] - theirs[str(layer.index)][0, head]).norm(dim=-1)
                # Each of ours is one of theirs, another one each.
                assert distances.amin(1).max() < 1e-4
                assert len(set(distances.argmin(1).tolist())) == TOKENS // 4 == distances.shape[1]
        asked = torch.cat([ids, torch.tensor([[5, 6, 7]])], 1)
        out = model.generate(asked, cache=memory.cache, max_new_tokens=8, do_sample=False)
    assert told["answer"] == tokenizer.decode(out[0, -8:], skip_special_tokens=True)
    assert "NAMMPress was given" in told["decoding"]
