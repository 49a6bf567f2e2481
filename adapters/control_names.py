"""Which shipped Decision Transformer an environment or a task of control stands for."""

from pathlib import Path

from transfer.checkpoints import shipped
from transfer.errors import UserError
from transfer.plugins import ENVIRONMENTS

#: Of an environment's shipped models, the first of these that there is.
_QUALITIES = ("mixed", "medium-replay", "expert", "medium", "none", "learned")
#: No NAMM is evolved or chosen on these, so that what it does there is news.
HELD_OUT = ("decision-transformer-tmaze-stretched", "decision-transformer-gates-stretched")


def is_held_out(model: str) -> bool:
    """Whether a model, by name or folder, is one that NAMMs are judged by."""
    known = shipped("control.json")
    folders = {known[name].resolve() for name in HELD_OUT}
    return model in HELD_OUT or Path(model).resolve() in folders


def control_model(task: str) -> str | None:
    """The shipped Decision Transformer behind a task's name; None if it names no control task.

    Args:
        task: an environment, or a shipped Decision Transformer.

    Raises:
        UserError: the environment has no shipped model.
    """
    known = shipped("control.json")
    if task in known:
        return task
    if task not in ENVIRONMENTS:
        return None
    names = [f"decision-transformer-{task}-{quality}" for quality in _QUALITIES]
    found = [name for name in names if name in known]
    if not found:
        raise UserError(f"no Decision Transformer ships for {task}; name the folder of one")
    return found[0]
