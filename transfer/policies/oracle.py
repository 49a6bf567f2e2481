"""What no rule can know: a memory that is told which tokens matter. A ceiling, not a contender.

Where an environment marks the states that have to be remembered, this keeps them and otherwise the
newest tokens. Models write what they remember into the tokens after a cue, too: with the state
alone it is no strict upper bound, and `after` says how many tokens that follow it stay as well.
"""

from dataclasses import dataclass
from typing import ClassVar

from transfer.errors import UserError
from transfer.policies.recency import Recency


@dataclass(frozen=True)
class Oracle(Recency):
    """Keeps what it is told to protect, and the most recent tokens.

    Args:
        sinks: as of `Recency`.
        after: tokens after each state that has to be remembered which stay with it.
    """

    sinks: int = 0
    after: int = 0

    name: ClassVar[str] = "oracle"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.after < 0:
            raise UserError(f"oracle cannot keep {self.after} tokens after a cue; use 0 or more")
