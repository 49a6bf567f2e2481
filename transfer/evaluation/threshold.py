"""A threshold that was found for a policy: the file that `transfer calibrate` writes."""

from dataclasses import dataclass
from pathlib import Path

from transfer.cache.policy import PROTECTING, Policy, Pruning
from transfer.errors import UserError
from transfer.evaluation.options import EvalConfig
from transfer.files import read_sealed
from transfer.policies.namm import NAMMPolicy

_REMEDY = "make it again with `transfer calibrate`"


@dataclass(frozen=True)
class Threshold:
    """What a file says that prunes by it.

    Attributes:
        path: of the file.
        model: name of the one it was found on.
        weights: digest of that one's.
        policy: as it was spelled.
        kept: the share that was to be held.
        length: tokens of the texts it was found on.
        threshold: tokens that score below it leave.
        update_interval: at which it was found.
        namm: digest of the policy's NAMM; None: it has none.
    """

    path: Path
    model: str
    weights: str
    policy: str
    kept: float
    length: int
    threshold: float
    update_interval: int
    namm: str | None

    @property
    def words(self) -> str:
        """What tables say of it."""
        return (
            f"Threshold of {self.policy}: {self.threshold:.6g}, at which it holds {self.kept:.1%} "
            f"of the tokens of {self.model} on average, in texts of {self.length} ({self.path})"
        )

    def check_model(self, model: str, weights: str | None) -> None:
        """Raise `UserError` where another model is pruned than it was found on.

        Args:
            model: name.
            weights: digest of the model's; None: nobody knows it, and its name has to do.
        """
        named_alike = Path(model).name == Path(self.model).name
        if named_alike if weights is None else weights == self.weights:
            return
        this = f"{model} has other weights now" if named_alike else f"{model} is another model"
        raise UserError(
            f"threshold {self.path} was found on {self.model}, and {this}, of which it would hold "
            f"another share; find that of a language model with `transfer calibrate --model {model}"
            f"`, or take this one as --policy {self.policy}:threshold={self.threshold:.6g}"
        )

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
    kinds = {
        "model": str, "weights": str, "policy": str, "kept": float, "length": int,
        "threshold": float, "update_interval": int, "namm": str | None,
    }  # fmt: skip
    if not all(isinstance(content.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} does not say the threshold of a policy; {_REMEDY}")
    return Threshold(path, **{name: content[name] for name in kinds})


def thresholds_of(config: EvalConfig) -> list[Threshold]:
    """Those that an evaluation is told.

    Raises:
        UserError: as `read_threshold`.
    """
    options = getattr(config, "contenders", None)
    return [read_threshold(path) for path in options.threshold] if options else []


def policy_digest(policy: Policy) -> str | None:
    """Of the numbers of its NAMM; None without one."""
    return policy.namm.digest() if isinstance(policy, NAMMPolicy) else None
