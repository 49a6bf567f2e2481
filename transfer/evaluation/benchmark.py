"""What every evaluation is made of: items that are asked, in blocks, of one contender at a time.

A benchmark knows its model and its tasks; it knows no policy's name, keeps no results and draws no
table. `transfer.evaluation.runner` runs any of them, `summary` averages the rows of any of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from transfer.evaluation.contenders import Contender
from transfer.evaluation.store import HELD_FIELDS, Row

#: What every row says, whoever made it; a failed row has None where nothing was measured.
ROW_FIELDS = (
    "model", "task", "item", "cluster", "policy", "budget", "update_interval", "eviction",
    "keep_recent", "sinks", "share", "share_floor", "threshold", "nominal", "pair", "failure",
    "tokens", "kept_tokens", "kept", *HELD_FIELDS, "cache_bytes", "peak_bytes", "full_bytes",
    "policy_seconds", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Items that are computed together, as a batch whose size may decide last digits.

    Attributes:
        name: of this block alone; the same in a run that is resumed.
        items: what each item's rows say of it under every contender: `task`, `item` (what pairs
            rows; unlike any other of its task), `cluster` (what is drawn together by the
            bootstrap), and the fields of `Benchmark.keys` and `groups`.
        content: the benchmark's own.
    """

    name: str
    items: Sequence[Row]
    content: Any = field(default=None, repr=False)


class Benchmark(ABC):
    """What is asked of a model, and how it is scored.

    Made from the configuration of an evaluation; whatever could be wrong with its model, task or
    data is a `UserError` then, before the first block.

    Attributes:
        kind: language, video or control, whose tables then show the results; or another word.
        model: as results name it.
        metrics: fields of the rows that are scores; the first is the one that counts.
        bases: contenders to which differences are reported, `full` among them.
        keys: fields of the items beside `task`; each of their values has its own entries.
        groups: fields of the items by which entries are also broken down.
        average_by: field over whose values the mean is of means (a macro average).
        weigh_by: field of the rows, above 0, by which scores and differences are weighed in their
            means; None: all items weigh the same.
        families: field of the items that says over which tasks a mean of their means is reported,
            also as a share of the full cache's (empty: over none); None: there are no such.
        dated: the names of blocks change with the data; rows of names that are gone are dropped
            when a run is resumed, of other benchmarks they are refused.
        means: other fields of the rows whose means are reported.
        sums: other fields of the rows whose sums are.
    """

    kind: ClassVar[str] = "other"
    model: str
    metrics: tuple[str, ...]
    bases: tuple[str, ...] = ("full",)
    keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    average_by: str | None = None
    weigh_by: str | None = None
    families: str | None = None
    dated: bool = False
    means: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()

    @abstractmethod
    def contenders(self) -> Sequence[Contender]:
        """Who is compared, the bases first."""

    @abstractmethod
    def blocks(self) -> Sequence[Block]:
        """Everything that is asked, in order."""

    def prepared(self, block: Block) -> Any:
        """What all contenders need of a block, made once for them, such as encoded frames."""
        return block.content

    @abstractmethod
    def rows(self, ready: Any, contender: Contender) -> Iterator[Row]:
        """The items of a block under one contender, each as soon as it has ended.

        A row has `item`, the metrics, what `means` and `sums` name, and as many of `tokens`,
        `kept_tokens`, `cache_bytes` (both at the end), `held_mean`, `held_peak`, `bytes_mean`,
        `peak_bytes`, `full_bytes` and `policy_seconds` as there are, see `transfer.evaluation.held`
        for those of a cache; `failure`, a sentence, where the item failed. An item that is not
        yielded before a `UserError` or a lack of memory has failed too.

        Args:
            ready: what `prepared` made.
            contender: whose memory it is.
        """

    @abstractmethod
    def digest(self) -> dict[str, Any]:
        """What decides the results beside the options: of the model's files, the data, versions."""

    def weights(self) -> str | None:
        """Digest of the model's, which `transfer calibrate` notes; None: its name has to do."""
        return None

    def versions(self) -> dict[str, str]:
        """Versions of what else computes, such as the environment."""
        return {}

    def computed(self) -> dict[str, str]:
        """The `dtype` and `device` that the model computes in and on, see `placement.computed`."""
        return {}

    def about(self, rows: Sequence[Row], failed: Sequence[Row]) -> Row:
        """More fields of a summary entry.

        Args:
            rows: of one contender, at least one.
            failed: those of its items that failed.
        """
        return {}

    def files(self, rows: Sequence[Row]) -> Mapping[str, Any]:
        """What is written beside the results: names, `submission-*.json`, and their contents.

        Args:
            rows: of all contenders.
        """
        return {}

    def finish(self, contenders: Sequence[Contender]) -> None:  # noqa: B027 (few have an end)
        """After the last block, where nothing interrupted it; once, in the first process."""

    def close(self) -> None:  # noqa: B027 (few hold anything)
        """Let go of simulators and files."""
