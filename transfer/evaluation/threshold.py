"""A threshold that was found for a policy: the file that `transfer calibrate` writes."""

from dataclasses import asdict, dataclass
from pathlib import Path

from transfer.cache.policy import PROTECTING, Policy, Pruning
from transfer.errors import UserError
from transfer.files import content_digest, read_sealed
from transfer.policies.namm import NAMMPolicy

_REMEDY = "make it again with `transfer calibrate`"


@dataclass(frozen=True)
class Threshold:
    """What a file says that prunes by it.

    Attributes:
        path: of the file.
        policy: as it was spelled.
        threshold: tokens that score below it leave.
        update_interval: at which it was found.
        namm: digest of the policy's NAMM; None: it has none.
    """

    path: Path
    policy: str
    threshold: float
    update_interval: int
    namm: str | None

    def check_namm(self, policy: Policy) -> None:
        """Raise `UserError` where the name stands for another NAMM now."""
        if policy_digest(policy) != self.namm:
            raise UserError(f"threshold {self.path} is of another NAMM {self.policy}; {_REMEDY}")

    def check_settings(self, name: str, pruning: Pruning, calibrated: Pruning) -> None:
        """Raise `UserError` where a contender prunes otherwise than it was calibrated."""
        for setting in ("update_interval", "eviction", *PROTECTING):
            ours, its = getattr(pruning, setting), getattr(calibrated, setting)
            if ours != its:
                raise UserError(
                    f"threshold {self.path} was found at {setting} {its}, and {name} has {ours}; "
                    "say the same, or calibrate it so"
                )


def read_threshold(path: Path) -> Threshold:
    """What `transfer calibrate` wrote.

    Raises:
        UserError: there is no such file, or it was changed, or is something else.
    """
    content = read_sealed(path, _REMEDY)
    kinds = {"policy": str, "threshold": float, "update_interval": int, "namm": str | None}
    if not all(isinstance(content.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} does not say the threshold of a policy; {_REMEDY}")
    return Threshold(path, **{name: content[name] for name in kinds})


def policy_digest(policy: Policy) -> str | None:
    """Of the numbers of its NAMM; None without one."""
    if not isinstance(policy, NAMMPolicy):
        return None
    namm = policy.namm
    numbers = [tensor.tolist() for tensor in (namm.vector, namm.mean, namm.std)]
    return content_digest([asdict(namm.config), numbers])
