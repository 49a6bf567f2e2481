"""A page of a text, coloured by what each layer and head kept of it, over time."""

import base64
from collections.abc import Mapping

import numpy as np

from transfer.inspection.fate import Fate
from transfer.pages import page, part

_HERE = "transfer.inspection"
#: Scores are told in so many steps to either side of 0, of the largest of each head.
_STEPS = 32_000


def text_page(about: Mapping[str, str], fate: Fate) -> str:
    """The page.

    Args:
        about: what stands at its head, name by name.
        fate: of the tokens.
    """
    scores = fate.scores.numpy()
    largest = np.nanmax(np.abs(np.where(np.isfinite(scores), scores, np.nan)), axis=-1, initial=0.0)
    steps = np.nan_to_num(scores / np.maximum(largest, 1e-30)[..., None] * _STEPS, nan=-32768)
    steps = steps.clip(-32768, _STEPS)
    data = {
        "about": dict(about),
        "tokens": list(fate.tokens),
        "seen": list(fate.seen),
        "layers": list(fate.layers),
        "heads": fate.left.shape[1],
        "left": _packed(fate.left.numpy(), "<u2"),
        "scores": _packed(np.rint(steps), "<i2"),
        "largest": [[float(f"{value:.6g}") for value in row] for row in largest.tolist()],
        "steps": _STEPS,
    }
    style, script = part(_HERE, "text.css"), part(_HERE, "text.js")
    return page(f"What {about['policy']} keeps", style, [script], data)


def _packed(numbers: np.ndarray, kind: str) -> str:
    return base64.b64encode(numbers.astype(kind).tobytes()).decode()
