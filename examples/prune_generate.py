"""Generate with any causal language model while a policy prunes its cache.

    python examples/prune_generate.py MODEL_FOLDER_OR_HUB_ID "your prompt" [NAMM]

Without a NAMM's name, folder or hub id the shipped one is used.
"""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

from transfer import NAMM, attach

model_name, prompt, *namm_name = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model_name, trust_remote_code=False)
model = AutoModelForCausalLM.from_pretrained(model_name, trust_remote_code=False).eval()
inputs = tokenizer(prompt, return_tensors="pt")

with attach(model, NAMM.from_pretrained(*namm_name or ["recall"])) as memory:
    out = model.generate(**inputs, cache=memory.new_cache(), max_new_tokens=200)
print(tokenizer.decode(out[0], skip_special_tokens=True))
print(memory.report())
