"""A benchmark from outside and a policy from outside, as another package brings them."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

from transfer.cache.policy import Policy
from transfer.evaluation.benchmark import Benchmark, Block, Row
from transfer.evaluation.contenders import Contender, full, plan
from transfer.evaluation.language import LanguageEval

#: Names a folder: the first worker process that is asked about item 3 dies there, once.
DYING = "TRANSFER_TESTS_DYING"


@dataclass(frozen=True)
class Own(Policy):
    """Keeps every so-manieth token."""

    every: int
    name: ClassVar[str] = "own"

    def score(self, window, state):
        return (window.positions % self.every == 0).to(state.dtype), state


@dataclass(frozen=True)
class Cut(Own):
    """The same; its threshold is its own setting."""

    threshold: float = 0.5  # pyright: ignore[reportIncompatibleVariableOverride]


class Toy(Benchmark):
    """Throws numbers that depend on the item and who is asked; no model, no time.

    Attributes:
        happens: called before each item is answered.
        prepares: called before each block.
        calls: of `finish` and `close`, in order.
    """

    kind = "toy"
    metrics = ("points", "bonus")
    keys = ("colour",)
    groups = ("size",)
    means = ("tries",)
    sums = ("thinking_seconds",)
    happens: ClassVar[Callable[[str, Any], None]] = lambda policy, item: None
    prepares: ClassVar[Callable[[str], None]] = lambda block: None
    calls: ClassVar[list[str]] = []

    def __init__(self, config: LanguageEval) -> None:
        self.config, self.model = config, config.model

    def contenders(self) -> Sequence[Contender]:
        return [full(), *plan(self.config.contenders)]

    def blocks(self) -> Sequence[Block]:
        items = [
            {
                "task": "throws", "item": number, "cluster": number // 2,
                "colour": ("red", "blue")[number % 2], "size": ("s", "l")[number % 3 == 0],
            }
            for number in range(self.config.documents or 3)
        ]  # fmt: skip
        size = self.config.batch
        return [
            Block(f"from {start}", items[start : start + size])
            for start in range(0, len(items), size)
        ]

    def prepared(self, block: Block) -> Any:
        type(self).prepares(block.name)
        return [item["item"] for item in block.items]

    def rows(self, ready: Any, contender: Contender) -> Iterator[Row]:
        for item in ready:
            _die_once(item)
            type(self).happens(contender.name, item)
            thrown = crc32(f"{contender.key} {item} {self.config.seed}".encode())
            yield {
                "item": item,
                "points": thrown % 1000 / 7,
                "bonus": float(thrown % 2),
                "tries": thrown % 5,
                "tokens": 100,
                "kept_tokens": 25.0 if contender.name != "full" else 100.0,
                "cache_bytes": 1000,
                "peak_bytes": 2000,
                "full_bytes": 4000,
                "thinking_seconds": 0.5,
            }

    def digest(self) -> dict[str, Any]:
        return {"dice": "six"}

    def finish(self, contenders: Sequence[Contender]) -> None:
        self.calls.append(f"finish with {' '.join(one.name for one in contenders)}")

    def close(self) -> None:
        self.calls.append("close")


def _die_once(item: int) -> None:
    folder = os.environ.get(DYING)
    if folder and item == 3 and not (Path(folder) / "died").exists():
        (Path(folder) / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
