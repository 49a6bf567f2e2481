"""The folder of a run that is resumed block by block.

A block is what is computed together, as a batch of episodes or documents: its size decides last
digits, so a block that had not ended is computed again as a whole. `blocks.jsonl` has a line for
each that has, with its seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from transfer.evaluation.results import Row, row_line
from transfer.evaluation.resumed import ResumedFolder, read_rows
from transfer.files import replacing

BLOCKS_FILE = "blocks.jsonl"


@dataclass(frozen=True)
class Block:
    """What is computed together: one value of each field that its rows share, and their seeds."""

    seeds: tuple[int, ...]


BlockT = TypeVar("BlockT", bound=Block)


class BlockFolder(ResumedFolder, Generic[BlockT]):
    """Writes one run after the blocks that an earlier run has finished.

    Args:
        folder: None: nothing is written.
        settings: what decides the results.
        kind: of the blocks; all rows have its fields.

    Attributes:
        seconds: of each block that is finished, by what they were spent on.
    """

    def __init__(
        self, folder: Path | None, settings: Mapping[str, Any], kind: type[BlockT]
    ) -> None:
        name = fields(kind)[-1].name
        super().__init__(folder, settings, name, self._of_finished_blocks)
        self._kind = kind
        self.seconds: dict[BlockT, dict[str, float]] = {}

    def __enter__(self) -> "BlockFolder[BlockT]":
        super().__enter__()
        return self

    def finish_block(self, block: BlockT, seconds: Mapping[str, float]) -> None:
        """Note that all rows of a block are written."""
        self.seconds[block] = dict(seconds)
        if self.folder is not None:
            with (self.folder / BLOCKS_FILE).open("a", encoding="utf-8") as file:
                file.write(row_line({**asdict(block), "block_seconds": self.seconds[block]}))

    def _open(self, path: Path) -> TextIO:
        blocks = path.parent / BLOCKS_FILE
        lines = read_rows(blocks) if blocks.is_file() else []
        for line in lines:
            named = {field.name: line[field.name] for field in fields(self._kind)}
            block = self._kind(**{**named, "seeds": tuple(line["seeds"])})
            self.seconds[block] = line["block_seconds"]
        opened = super()._open(path)
        # Without a line that was cut, so that the next one is whole.
        with replacing(blocks) as partial:
            partial.write_text("".join(map(row_line, lines)), encoding="utf-8")
        return opened

    def _of_finished_blocks(self, rows: Sequence[Row]) -> list[Row]:
        names = [field.name for field in fields(self._kind) if field.name != "seeds"]
        finished = {
            (*(getattr(block, name) for name in names), seed)
            for block in self.seconds
            for seed in block.seeds
        }
        return [row for row in rows if (*(row[name] for name in names), row["seed"]) in finished]
