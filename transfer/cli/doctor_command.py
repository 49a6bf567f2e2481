"""`transfer doctor`: what this installation can do."""

from dataclasses import dataclass, field

from transfer.adapters.placement import Placement
from transfer.cli import FAILED


@dataclass(frozen=True)
class CONFIG:
    """Say what this installation can do, and what to do about the rest.

    Args:
        model: also check that pruning this model (a shipped name, folder or hub id) is exact.
        trust_remote_code: run the Python that a model from outside brings.
        place: where that model computes.
    """

    model: str | None = None
    trust_remote_code: bool = False
    place: Placement = field(default_factory=Placement)


def run(config: CONFIG) -> int:
    """Print one finding a line; 1 if something that is needed does not work."""
    from transfer.doctor import examine

    code = 0
    for finding in examine(config.model, config.trust_remote_code, config.place):
        print(finding, flush=True)
        if finding.needed and not finding.ok:
            code = FAILED
    return code
