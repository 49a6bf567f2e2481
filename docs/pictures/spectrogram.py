"""Draws `spectrogram.png`: what a NAMM makes of the attention that two tokens received.

python docs/pictures/spectrogram.py docs/pictures/spectrogram.png
"""

import sys

import matplotlib.pyplot as plt
import torch

from transfer import NAMM, attach
from transfer.adapters.language_model import load_language_model
from transfer.namm.spectrogram import HOP, WINDOW
from transfer.tasks.recall import TASKS, make_batch

LAYER, HEAD, LENGTH = 1, 0, 256

model = load_language_model("llama-recall").model
ids = make_batch(TASKS["recall"], length=LENGTH, seeds=[3]).ids
memory = attach(model, NAMM.from_pretrained("recall"), 512, expose_attention=True)
with memory, torch.no_grad():
    model(ids, cache=memory.new_cache())
    received = memory.attention(LAYER)[0, HEAD].T
hann = torch.hann_window(WINDOW)
frames = received.unfold(1, WINDOW, HOP)
magnitudes = torch.fft.rfft(frames * hann).abs()
early = received[8 : LENGTH // 2].sum(1)
tokens = {"much": 8 + int(early.argmax()), "little": 8 + int(early.argmin())}

figure, axes = plt.subplots(2, 2, figsize=(9, 4), height_ratios=[1, 1.6], sharex=True)
times = torch.arange(frames.shape[1]) * HOP + WINDOW / 2
for column, (amount, token) in zip(axes.T, tokens.items()):
    column[0].plot(received[token], linewidth=0.8)
    column[0].set_title(f"token {token}, attended to {amount}", fontsize=10)
    column[0].set_ylim(0, received[list(tokens.values())].max())
    column[1].pcolormesh(times, range(WINDOW // 2 + 1), magnitudes[token].log().T, vmin=-9, vmax=0)
    column[1].set_xlabel("query")
axes[0, 0].set_ylabel("attention")
axes[1, 0].set_ylabel("frequency bin")
figure.tight_layout()
figure.savefig(sys.argv[1], dpi=110)
