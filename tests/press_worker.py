"""Run where kvpress is: what `NAMMPress` keeps of a prompt, and the pipeline's answer after it.

    python press_worker.py MODEL IDS OUT

The model's folder has a tokenizer of words; keys of all layers go to OUT, the answer is printed.
"""

import json
import sys

import torch
from kvpress import DecodingPress
from kvpress.pipeline import KVPressTextGenerationPipeline
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from transfer.errors import UserError
from transfer.kvpress import NAMMPress


@torch.no_grad()
def kept(model, ids, press):
    cache = DynamicCache()
    with press(model):
        model.model(input_ids=ids, past_key_values=cache)
    return {str(index): layer.keys for index, layer in enumerate(cache.layers)}


def main(folder, file, out):
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = load_file(file)["ids"]
    save_file(kept(model, ids, NAMMPress(0.75)), out)
    pipe = KVPressTextGenerationPipeline(model=model, tokenizer=tokenizer)
    # The pipeline begins a context itself.
    context, asked = tokenizer.decode(ids[0, 1:]), {"question": "w5 w6 w7", "max_new_tokens": 8}
    told = {"answer": pipe(context, press=NAMMPress(0.75), **asked)["answer"]}
    try:
        pipe(context, press=DecodingPress(NAMMPress(), 4, 16), **asked)
    except UserError as error:
        told["decoding"] = str(error)
    print(json.dumps(told))


main(*sys.argv[1:])
