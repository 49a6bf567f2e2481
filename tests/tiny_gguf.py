"""A tiny Llama in a GGUF file, and in a wheel that holds one."""

import hashlib
from pathlib import Path
from zipfile import ZipFile

import gguf
import numpy as np
import tiny
import torch
from gguf import GGMLQuantizationType as Kind

from transfer.adapters.fetched import Fetched

NAME, VERSION, MEMBER = "tiny-llm", "1.0", "tiny_llm/tiny.gguf"
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
}


def save_gguf(
    path: Path,
    kind: Kind = Kind.F32,
    tokens: bool = True,
    tokenizer: str = "gpt2",
    **changes,
) -> torch.nn.Module:
    """Write a file; returns the model whose weights it holds."""
    torch.manual_seed(0)
    model = tiny.llama()
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    sizes = {
        "name": "A title of several words",
        "block_count": config.num_hidden_layers,
        "context_length": 512,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "head_count": config.num_attention_heads,
        "head_count_kv": config.num_key_value_heads,
        "layer_norm_rms_eps": config.rms_norm_eps,
        "rope_freq_base": 10000.0,
        "vocab_size": config.vocab_size,
    }
    for name, value in (sizes | changes).items():
        getattr(writer, f"add_{name}")(value)
    if tokens:
        writer.add_tokenizer_model(tokenizer)
        words = [f"<{n}>" if n < 3 else chr(n + 30) for n in range(96)]
        writer.add_token_list([*words, "ab"])
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(*_stored(name, tensor.numpy(), config, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _stored(name, values, config, kind):
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            # llama.cpp rotates pairs of neighbours.
            halves = values.reshape(count, 2, -1, values.shape[-1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    values = np.ascontiguousarray(values)
    if values.ndim == 1 or kind == Kind.F32:
        return name, values
    return name, gguf.quants.quantize(values, kind), None, kind


def save_wheel(folder: Path, member: str = MEMBER) -> Fetched:
    """Write a wheel with such a file, and a package that must never be imported or installed."""
    file = folder / "tiny.gguf"
    save_gguf(file)
    content = file.read_bytes()
    file.unlink()
    about = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nRequires-Dist: no-such-thing"
    info = f"tiny_llm-{VERSION}.dist-info"
    wheel = folder / f"tiny_llm-{VERSION}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_llm/__init__.py", "raise SystemExit('imported')")
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Fetched(
        name="tiny",
        hub="nobody/tiny",
        licence="none",
        package=NAME,
        version=VERSION,
        wheel=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
    )
