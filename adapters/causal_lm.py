"""Decoder-only language models: Llama 8B and 70B and their relatives."""

from transfer.attachment.adapter import Adapter


class CausalLMAdapter(Adapter):
    """Language models whose attention goes through transformers' attention interface.

    In models that mix full-attention and sliding-window layers (Gemma 2 and 3) the former are
    pruned and the latter keep their stock cache.
    """
