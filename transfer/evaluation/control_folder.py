"""The folder of a control run: resumed batch by batch, because a batch's size decides last digits.

`blocks.jsonl` has a line for each batch of episodes that has ended, with its seconds; rows of a
batch that had not are played again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from transfer.evaluation.results import Row, row_line
from transfer.evaluation.resumed import ResumedFolder, read_rows
from transfer.files import replacing

BLOCKS_FILE = "blocks.jsonl"


@dataclass(frozen=True)
class Block:
    """Episodes that run together: those of one protocol and target with these seeds."""

    protocol: str
    target: float
    seeds: tuple[int, ...]

    def holds(self, row: Row) -> bool:
        """Whether a row is of one of these episodes."""
        same = (row["protocol"], row["target_return"]) == (self.protocol, self.target)
        return same and row["seed"] in self.seeds


class ControlFolder(ResumedFolder):
    """Writes one control run after the blocks that an earlier run has finished.

    Args:
        folder: None: nothing is written.
        settings: what decides the results.

    Attributes:
        seconds: of each block that is finished, by what they were spent on.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings, "protocol", self._of_finished_blocks)
        self.seconds: dict[Block, dict[str, float]] = {}

    def finish_block(self, block: Block, seconds: Mapping[str, float]) -> None:
        """Note that all rows of a block are written."""
        self.seconds[block] = dict(seconds)
        if self.folder is not None:
            with (self.folder / BLOCKS_FILE).open("a", encoding="utf-8") as file:
                file.write(row_line({**asdict(block), "seconds": self.seconds[block]}))

    def __enter__(self) -> "ControlFolder":
        super().__enter__()
        return self

    def _open(self, path: Path) -> TextIO:
        blocks = path.parent / BLOCKS_FILE
        lines = read_rows(blocks) if blocks.is_file() else []
        for line in lines:
            block = Block(line["protocol"], line["target"], tuple(line["seeds"]))
            self.seconds[block] = line["seconds"]
        opened = super()._open(path)
        # Without a line that was cut, so that the next one is whole.
        with replacing(blocks) as partial:
            partial.write_text("".join(map(row_line, lines)), encoding="utf-8")
        return opened

    def _of_finished_blocks(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if any(block.holds(row) for block in self.seconds)]
