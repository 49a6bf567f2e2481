"""`transfer import`: a checkpoint of other authors' code becomes a folder of this package."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from transfer.errors import UserError


@dataclass(frozen=True)
class CONFIG:
    """Convert a checkpoint of others, told by its content; nothing in it is executed.

    It is a NAMM of the original repository (ckpt.pt), or the state dict of a Decision Transformer:
    of kzl/decision-transformer or of min-decision-transformer.

    Args:
        checkpoint: file of the checkpoint.
        out: folder of the NAMM, as --namm takes it, or of the model, as --model does.
        env: environment that a Decision Transformer was trained in.
        quality: D4RL's data that it was trained on: random, medium, expert, ...; the statistics of
            their states are known.
        state_statistics: JSON or .npz with state_mean and state_std, instead of --quality.
        heads: attention heads of each of its layers, which no weight says.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    env: str | None = None
    quality: str | None = None
    state_statistics: Path | None = None
    heads: int = 1


def run(config: CONFIG) -> int:
    """Convert it, and say what it is."""
    from transfer.adapters.imported_control import is_control
    from transfer.namm.original import read_checkpoint

    content = read_checkpoint(config.checkpoint)
    if not is_control(content) and not _is_namm(content):
        raise UserError(
            f"{config.checkpoint} has no evolution_state and no embed_timestep.weight: it is "
            "neither a NAMM of the original repository nor a Decision Transformer's state dict; "
            "name another file"
        )
    print(f"{config.out}: {(_import_control if is_control(content) else _import_namm)(config)}")
    return 0


def _is_namm(content: Any) -> bool:
    return isinstance(content, dict) and "evolution_state" in content


def _import_control(config: CONFIG) -> str:
    from transfer.adapters.control_model import save_control_model
    from transfer.adapters.imported_control import import_control

    control = import_control(
        config.checkpoint, config.env, config.quality, config.state_statistics, config.heads
    )
    save_control_model(control, config.out)
    made = control.model.config
    return (
        f"a Decision Transformer of {made.num_hidden_layers} layers, {made.hidden_size} wide, "
        f"{made.num_attention_heads} heads, {made.activation_function}, a context of "
        f"{control.context} steps, for {control.env}"
    )


def _import_namm(config: CONFIG) -> str:
    from transfer.namm.original import import_original

    for option in fields(config)[2:]:
        if getattr(config, option.name) != option.default:
            raise UserError(
                f"--{option.name.replace('_', '-')} is of a Decision Transformer, and "
                f"{config.checkpoint} is no state dict of one; leave it out or name another file"
            )
    namm = import_original(config.checkpoint)
    namm.save_pretrained(config.out)
    return f"{namm.config}, {namm.vector.shape[-1]} parameters"
