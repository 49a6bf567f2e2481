"""`transfer import`: a checkpoint of the original repository becomes a NAMM's folder."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class CONFIG:
    """Convert a checkpoint of the original NAMM repository (ckpt.pt); nothing in it is executed.

    Args:
        checkpoint: the file.
        out: folder of the NAMM, as --namm takes it.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]


def run(config: CONFIG) -> int:
    """Convert it, and say what it is."""
    from transfer.namm.original import import_original

    namm = import_original(config.checkpoint)
    namm.save_pretrained(config.out)
    print(f"{config.out}: {namm.config}, {namm.vector.shape[-1]} parameters")
    return 0
