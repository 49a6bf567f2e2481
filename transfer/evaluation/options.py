"""What the command line takes for every kind of evaluation: who is compared, and how it is run.

Nothing heavy is imported here, because the command line reads these for its help.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from transfer.adapters.placement import Placement
from transfer.arguments import check_fields
from transfer.errors import MOST_TOKENS, UserError, check_at_least
from transfer.namm.config import DEFAULT_NAMM
from transfer.plugins import BENCHMARKS

Budget = int | float | None
#: How the name of a task file ends.
RECORDS = ".jsonl"
#: How names of files end that no task has.
_FILES = (RECORDS, ".json", ".csv", ".tsv", ".parquet", ".txt", ".zip")


@dataclass(frozen=True)
class ContenderOptions:
    """Who is compared.

    Args:
        policy: who prunes the cache, such as namm, h2o or recency: criticalkv, expected_attention,
            fastgen, full, h2o, h2o_age, keydiff, l2_norm, lagkv, namm, pyramidkv, random, recency,
            snapkv, tova, vatp, fifo (which is recency:sinks=0), namm:NAME for one NAMM, or
            package.module:Class for a policy of your own; `all`: every one of ours. Settings follow
            a colon: h2o:budget=32, recency:sinks=0,update_interval=64, namm:recall:keep_recent=8.
        namm: NAMMs of the policy namm: shipped names, folders or hub ids.
        budget: tokens each head keeps, or fractions (0.25) of the tokens seen; each is run. None:
            the policy's own threshold, where it has one.
        equal: rules hold as much as the first NAMM at --budget instead of having the same number
            for a budget; held: tokens, on average over those seen; peak: tokens, at most; bytes:
            at most, of which a NAMM needs more for each token. A rule's budget is of the NAMM's
            kind (tokens, if that has none), or as spelled: h2o:budget=size, h2o:budget=fraction.
        equal_bytes: --equal bytes.
        update_interval: tokens between two evictions.
        eviction: exact, or the original implementation's rule.
        keep_recent: newest tokens of each head that no policy evicts; they count within the budget,
            of which a fraction is never less than what is protected.
        sinks: first tokens that no policy evicts, likewise; recency, vatp, lagkv and
            expected_attention have their own number of them, and fifo none.
        share: who shares a budget; head: nobody. layer: the heads of a layer hold together what
            they would hold each, the best of all. model: one threshold and no budget. both: head
            and layer, of which tables show the better for each policy.
        share_floor: of a layer's budget, the part of the even share that each head keeps.
        threshold: files of `transfer calibrate`, whose policies prune by what they say and have no
            budget.
    """

    policy: tuple[str, ...] = ("all",)
    namm: tuple[str, ...] = (DEFAULT_NAMM,)
    budget: tuple[Budget, ...] = (0.25,)
    equal: Literal["held", "peak", "bytes"] | None = None
    equal_bytes: bool = False
    update_interval: int = 64
    eviction: Literal["exact", "reference"] = "exact"
    keep_recent: int = 0
    sinks: int = 0
    share: Literal["head", "layer", "model", "both"] = "head"
    share_floor: float = 0.25
    threshold: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "update_interval")
        check_at_least(0, self, "keep_recent", "sinks", most=MOST_TOKENS)
        check_at_least(0, self, "share_floor", most=1)
        object.__setattr__(self, "budget", tuple(map(_budget, self.budget)))
        if {(1, int), (1, float)} <= {(budget, type(budget)) for budget in self.budget}:
            raise UserError(
                "budget 1 is one token and budget 1.0 is all of them, and a table could not tell "
                "them apart; run each alone"
            )
        if self.equal_bytes and self.equal not in (None, "bytes"):
            raise UserError(
                f"--equal {self.equal} and --equal-bytes are two things to be equal in; give one"
            )
        # Without a policy there are still those that a benchmark compares with.
        for name in ("policy", "namm", "budget") if self.policy else ("namm", "budget"):
            name_once(self, name)

    @property
    def equal_in(self) -> str | None:
        """What is made equal, however it was said."""
        return "bytes" if self.equal_bytes else self.equal


@dataclass(frozen=True)
class MeasuredOptions(ContenderOptions):
    """The same after a first NAMM without a budget was run, which alone says what it holds.

    Attributes:
        goal: tokens, as `equal` means them.
        lengths: tokens of the sequences over which that is averaged.
    """

    goal: float = 0.0
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class RunOptions:
    """How it is run.

    Args:
        threads: CPU threads of the model; by default torch's own choice. Other numbers may round
            differently.
        engine: in-process, processes (on this machine) or ray (many machines); the rows are the
            same to the digit.
        workers: processes, or actors of Ray; each holds the model.
        out: folder for results.json, summary.csv and rows.jsonl. A run that was stopped there is
            resumed, to the same numbers; what failed is tried again, and rows that were changed
            or are of another run are refused.
        json: print results.json to standard output, and nothing else.
    """

    threads: int | None = None
    engine: Literal["in-process", "processes", "ray"] = "in-process"
    workers: int = 2
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "threads", "workers", most=1024)


#: Options that change no result.
FREE = ("engine", "workers", "out", "json", "video")


@dataclass(frozen=True)
class EvalConfig:
    """What every evaluation is told; each kind adds its own.

    Attributes:
        kind: language, video, control or suite.
    """

    kind: ClassVar[str]
    place: Placement = field(default_factory=Placement, kw_only=True)
    run: RunOptions = field(default_factory=RunOptions, kw_only=True)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what is asked."""
        return ()

    @property
    def benchmark(self) -> str:
        """The benchmark that is run, as `transfer.plugins.BENCHMARKS` knows it.

        Raises:
            UserError: a benchmark from outside is asked for beside something else.
        """
        outside = [task for task in self.tasks if _is_outside(task)]
        if outside and len(self.tasks) > 1:
            raise UserError(f"task {outside[0]} is a benchmark of its own; name it alone")
        return outside[0] if outside else self.kind


def _is_outside(task: str) -> bool:
    """Whether a task is a benchmark that another package adds, by name or `module:attribute`."""
    if task.endswith(RECORDS) or task in BENCHMARKS.built_in:
        return False
    return ":" in task or task in BENCHMARKS


def refuse_file(task: str, how: str) -> None:
    """Refuse a file that was given as a task, for another reason than that nobody knows it.

    Args:
        task: as it was given.
        how: files are read, in a clause.

    Raises:
        UserError: it is one.
    """
    if task.lower().endswith(_FILES):
        raise UserError(f"{task} is a file and no task; {how}")


def flat_options(config: Any) -> Iterator[tuple[str, Any]]:
    """Every option of a configuration with its value, those of nested ones among them."""
    for option in fields(config):
        value = getattr(config, option.name)
        if is_dataclass(value):
            yield from flat_options(value)
        else:
            yield option.name, value


def name_once(config: Any, name: str) -> None:
    """Leave out of an option what it names again; a file is the same in every spelling.

    Raises:
        UserError: it names nothing.
    """
    values = getattr(config, name)
    if not values:
        raise UserError(f"no {name} was named; name at least one")
    named: dict[Any, Any] = {}
    for value in values:
        file = isinstance(value, str) and value.endswith(RECORDS)
        named.setdefault(Path(value).resolve() if file else value, value)
    object.__setattr__(config, name, tuple(named.values()))


def _budget(budget: Budget) -> Budget:
    """As it is meant: 24.0 is 24 tokens.

    Raises:
        UserError: it is neither a fraction nor tokens.
    """
    if budget is not None and math.isfinite(budget) and budget > MOST_TOKENS:
        raise UserError(f"budget {budget} is too large; use at most {MOST_TOKENS:,} tokens")
    if isinstance(budget, float) and budget > 1 and budget.is_integer():
        return int(budget)
    if isinstance(budget, float) and not 0 < budget <= 1:
        raise UserError(
            f"budget {budget} is not a fraction; "
            "use a number above 0 and up to 1, or a whole number of tokens"
        )
    if isinstance(budget, int) and budget < 1:
        raise UserError(f"budget {budget} keeps nothing; use 1 token or more")
    return budget
