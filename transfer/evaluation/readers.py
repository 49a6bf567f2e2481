"""Which policies read the documents or questions of a run, and how each prunes the cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.cache.policy import Policy, Pruning
from transfer.evaluation.equal_bytes import EqualBytes
from transfer.namm.network import NAMM
from transfer.policies import POLICIES, get_policy


@dataclass(frozen=True)
class Reader:
    """A policy that reads, by the name it has in the results."""

    name: str
    pruning: Pruning


def plan_readers(
    names: Sequence[str],
    namms: Sequence[str],
    budgets: Sequence[int | float | None],
    update_interval: int,
    eviction: str,
    equal: EqualBytes | None = None,
) -> list[Reader]:
    """The full cache, then every policy at every budget.

    Args:
        names: of policies; `all`: every one.
        namms: of the policy namm.
        budgets: tokens of each head or shares of the tokens seen; None: the policy's own threshold.
        update_interval: tokens between two evictions.
        eviction: exact or reference.
        equal: gives every rule the bytes of the first NAMM instead of the same budget.

    Raises:
        UserError: unknown policy or NAMM, or settings a policy cannot work with.
    """
    everyone = "all" in names
    named = sorted(set(POLICIES) - {"full"}) if everyone else names
    policies = [pair for name in named for pair in named_policies(name, namms)]
    scorers = [policy for _, policy in policies if policy.name == "namm"]
    readers = [Reader("full", Pruning(get_policy("full"), update_interval))]
    for budget in budgets:
        for label, policy in policies:
            # Without a budget, `all` means those that have a threshold of their own.
            if budget is None and policy.threshold is None and everyone:
                continue
            pruning = Pruning(policy, update_interval, budget, eviction)
            if equal is not None:
                pruning = equal.pruning(policy, pruning, scorers)
            readers.append(Reader(label, pruning))
    return readers


def named_policies(name: str, namms: Sequence[str]) -> Iterator[tuple[str, Policy]]:
    """A policy by its name in the results; of `namm` one for each of `namms`, of `full` none.

    Raises:
        UserError: unknown policy or NAMM.
    """
    if name not in ("full", "namm"):
        yield name, get_policy(name)
    if name != "namm":
        return
    short = [Path(each).name for each in namms]
    unique = short if len(set(short)) == len(short) else namms
    for label, each in zip(unique, namms):
        policy = get_policy("namm", namm=NAMM.from_pretrained(each))
        named = label if label.startswith("namm") else f"namm {label}"
        yield ("namm" if len(namms) == 1 else named), policy
