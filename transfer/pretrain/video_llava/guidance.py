"""A helping hand: what has to be known half-way to the answer.

Which flash came before another is seldom found by chance, as the two are far apart and few. So
linear guesses are made in the middle of the text model, of the colour before and of the number of
flashes so far, at the tokens that show a flash; where an answer comes next, of the word that
answers, which a letter stands for; and at the options, of their letters. They are not part of the
stored model. Among hundreds of tokens the flash that tells, and the right option, are not found by
chance either, so a head of each of two layers is told where to look.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlavaNextVideoForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from transfer.pretrain.video_llava.data import ANSWERS, IGNORED, QuestionBatch
from transfer.tasks.video_drawing import COLORS
from transfer.tasks.video_recall import NUMBERS
from transfer.tasks.video_records import LETTERS

#: Layers, counted from 0, whose outputs tell the colour before, the number so far, the word, and an
#: option's letter.
LAYERS = (1, 2, 3, 1)
#: Layers in which a head looks at the flash that tells, and at the right option.
LOOKS = (3, 4)


class HalfwayReader(nn.Module):
    """Linear guesses of what came before a flash, of the word that answers, and of letters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (len(COLORS) + 1, len(NUMBERS) + 1, len(ANSWERS), len(LETTERS))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size)) for size in sizes
        )

    def forward(
        self, hidden: Sequence[Float[Tensor, "videos tokens width"]], batch: QuestionBatch
    ) -> tuple[Float[Tensor, ""], list[int]]:
        """Loss, and of each kind of guess how many are right, and how many there are.

        Args:
            hidden: embeddings, then the output of every layer.
            batch: that the model read.
        """
        loss, right = torch.zeros(()), []
        for head, layer, wanted in zip(self.heads, LAYERS, batch.halfway.unbind(-1)):
            shown = wanted != IGNORED
            guess = head(hidden[layer + 1][shown])
            lost = nn.functional.cross_entropy(guess, wanted[shown], reduction="sum")
            # Questions in words have no options.
            loss = loss + lost / max(1, len(guess))
            right += [int((guess.argmax(-1) == wanted[shown]).sum()), int(shown.sum())]
        return loss, right


def look(
    model: LlavaNextVideoForConditionalGeneration,
    hidden: Sequence[Float[Tensor, "videos tokens width"]],
    batch: QuestionBatch,
    letters: Int[Tensor, " letters"],
    ahead: float,
) -> Float[Tensor, ""]:
    """How far two heads are from looking where they should, wherever an answer is next.

    Args:
        model: that read the batch.
        hidden: embeddings, then the output of every layer.
        batch: that it read.
        letters: token ids of the letters.
        ahead: weight of a question asked ahead of a video, beside one asked after it.

    Returns:
        Weighted mean of minus the logarithm of the attention to the flash that tells the answer,
        and the same for the right option where a letter is next, in nats.
    """
    flash, wanted = batch.halfway[..., 1], batch.halfway[..., 4]
    tells = (flash[:, None] == wanted[..., None]) & (wanted != IGNORED)[..., None]
    said = torch.where(torch.isin(batch.targets, letters), batch.targets, IGNORED)
    named = torch.cat([letters, letters.new_tensor([IGNORED - 1])])[batch.halfway[..., 3].clamp(-1)]
    right = (named[:, None] == said[..., None]) & batch.visible
    # Options that stand before the video are seen too; a question's own come last.
    right &= right.flip(-1).cumsum(-1).flip(-1) == 1
    weights, lost = torch.where(batch.ahead, ahead, 1.0), torch.zeros(())
    for layer, aim in zip(LOOKS, (tells & batch.visible, right)):
        some = aim.any(-1)
        attention = _attention(model, hidden[layer], batch, layer)[some]
        attained = attention.masked_fill(~aim[some], -torch.inf).logsumexp(-1)
        # Questions in words have no options.
        lost = lost - (attained * weights[some]).sum() / weights[some].sum().clamp(min=1)
    return lost


def _attention(
    model: LlavaNextVideoForConditionalGeneration,
    hidden: Float[Tensor, "videos tokens width"],
    batch: QuestionBatch,
    layer: int,
) -> Float[Tensor, "videos tokens tokens"]:
    """Logarithms of the attention of the first head of a layer whose input is given."""
    text = model.model.language_model
    block = text.layers[layer]
    states = block.input_layernorm(hidden)
    dim, turns = block.self_attn.head_dim, text.rotary_emb(states, batch.positions)
    query, key = (
        of(states)[:, None, :, :dim] for of in (block.self_attn.q_proj, block.self_attn.k_proj)
    )
    query, key = (turned[:, 0] for turned in apply_rotary_pos_emb(query, key, *turns))
    scores = query @ key.mT / dim**0.5
    return scores.masked_fill(~batch.visible, -torch.inf).log_softmax(-1)
