"""What `transfer plan` is told. Nothing heavy is imported, because help reads it."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from transfer.arguments import check_fields
from transfer.errors import UserError, check_at_least, unknown_name
from transfer.plugins import POLICIES

if TYPE_CHECKING:
    from transfer.cache.policy import Pruning

DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Plan:
    """Say what a model's cache will weigh, full and pruned, without loading the model.

    Args:
        model: llama-3-70b, gemma-3-27b, bamba-9b or another whose sizes are known, a shipped model,
            a folder, a GGUF file or a hub id; only its configuration is read.
        context: tokens of the prompt, such as 4096, 128k (times 1024) or 1M (times 1024 again).
        budget: share of the tokens that each head keeps, or a number of tokens (4096).
        policy: who prunes the cache; the state it keeps counts.
        state: how the policy namm stores what it keeps of a token: float, or byte, one a number.
        update_interval: tokens between two updates.
        batch: sequences at once.
        dtype: number format of the cache; by default the one that the configuration names.
        devices: devices that share the layers; in order, as device_map does it.
        tensor_parallel: ranks that share the heads of each layer.
        trust_remote_code: run the Python that a model from outside brings.
        json: print numbers in bytes as JSON, and nothing else.

    Raises:
        UserError: a value is out of range or does not fit the model.
    """

    model: str = "llama-3-70b"
    context: str = "128k"
    budget: Annotated[int | float, tyro.conf.arg(aliases=["--kept"])] = 0.25
    policy: str = "namm"
    state: Literal["float", "byte"] = "float"
    update_interval: Annotated[int, tyro.conf.arg(aliases=["--n-up"])] = 512
    batch: int = 1
    dtype: str | None = None
    devices: int = 1
    tensor_parallel: int = 1
    trust_remote_code: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        self.tokens  # noqa: B018  (says what is wrong with it)
        check_at_least(1, self, "batch", "devices", "tensor_parallel", "update_interval")
        if self.budget <= 0 or (isinstance(self.budget, float) and self.budget > 1):
            raise UserError(
                f"budget {self.budget}: use a share above 0, up to 1.0, or a whole number of tokens"
            )
        pruning = sorted(set(POLICIES) - {"full"})
        named, *said = self.policy.split(":")
        if said and named in pruning:
            state = " --state byte" if "state=byte" in said else ""
            raise UserError(
                f"policy {self.policy!r}: a plan takes a policy's name alone, and other settings "
                f"as options of its own; use --policy {named}{state}"
            )
        if self.policy not in pruning:
            raise unknown_name("policy that prunes", self.policy, pruning)
        if self.state != "float" and self.policy != "namm":
            raise UserError(f"state {self.state} is of the policy namm, not of {self.policy}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)

    @property
    def tokens(self) -> int:
        """The context as a number."""
        match = re.fullmatch(r"([0-9]{1,10})([km]?)", self.context.lower())
        if not match or not int(match[1]):
            raise UserError(
                f"context {self.context!r}: use a number of tokens, such as 4096, 128k or 1M"
            )
        return int(match[1]) * 1024 ** ("", "k", "m").index(match[2])

    @property
    def pruning(self) -> "Pruning":
        """The settings the cache is pruned under."""
        from transfer.cache.policy import Pruning
        from transfer.namm.network import NAMM, NAMMConfig
        from transfer.policies import get_policy

        own = {"namm": NAMM(NAMMConfig()), "state": self.state} if self.policy == "namm" else {}
        policy = get_policy(self.policy, **own)
        return Pruning(policy, self.update_interval, self.budget)
