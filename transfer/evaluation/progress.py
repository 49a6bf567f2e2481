"""The progress bar of a run, on standard error so that standard output stays clean."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from transfer.evaluation.blocks import Block


class EpisodeBar:
    """Counts episodes; moves with every step, because episodes of a batch end together.

    Args:
        done: episodes that had ended before.
        left: blocks of those that have not.
        max_steps: of an episode.
    """

    def __init__(self, done: int, left: Sequence[Block], max_steps: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("episodes"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        episodes = done + sum(len(block.seeds) for block in left)
        self._task = self._progress.add_task("", total=episodes, completed=done)
        self._max_steps = max_steps
        self._ended = done

    def __enter__(self) -> "EpisodeBar":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def describe(self, what: str) -> None:
        """Name what runs now."""
        self._progress.update(self._task, description=what)

    def ended(self) -> None:
        """One episode has ended."""
        self._ended += 1
        self._progress.update(self._task, completed=self._ended)

    def stepped(self, running: int, steps: int) -> None:
        """`running` episodes have each made `steps` steps."""
        part = running * steps / (self._max_steps + 1)
        self._progress.update(self._task, completed=self._ended + part)
