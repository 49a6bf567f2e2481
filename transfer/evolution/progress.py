"""What a run says while it runs, on standard error."""

from collections.abc import Sequence
from types import TracebackType

from rich.progress import MofNCompleteColumn, TextColumn

from transfer.evolution.ledger import Entry
from transfer.progress import bars


class EvolutionProgress:
    """A bar over the generations of all seeds, with the last fitness and the time left.

    Args:
        generations: of each seed.
        seeds: how many.
    """

    def __init__(self, generations: int, seeds: int) -> None:
        self._progress = bars(MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
        self._task = self._progress.add_task("begins", total=generations * seeds, state="")
        self._done = 0

    def __enter__(self) -> "EvolutionProgress":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, seed: int, done: int) -> None:
        """A seed's search goes on after `done` generations."""
        self._done += done
        self._progress.update(self._task, description=f"seed {seed}", completed=self._done)

    def generation(self, record: Entry) -> None:
        """A generation is done."""
        self._done += 1
        fitness, kept = _mean(record["fitness"]), _mean(record["kept"])
        self._progress.update(
            self._task,
            completed=self._done,
            state=f"fitness {fitness:.3f}, kept {kept:.0%}",
        )

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        self._progress.console.print(text, highlight=False)


def _mean(values: Sequence[float | None]) -> float:
    """Mean of what is a number."""
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite)
