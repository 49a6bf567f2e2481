"""What a run says while it runs, on standard error."""

from collections import deque
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from transfer.evolution.ledger import Entry

_LAST = 5
_RECENT = 20


class EvolutionProgress:
    """A bar over the generations of all seeds, with the last fitnesses and the time left.

    Args:
        generations: of each seed.
        seeds: how many.
    """

    def __init__(self, generations: int, seeds: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
        )
        self._total = generations * seeds
        self._task = self._progress.add_task("evolving", total=self._total, state="")
        self._done = 0
        self._fitness: deque[float] = deque(maxlen=_LAST)
        self._seconds: deque[float] = deque(maxlen=_RECENT)

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
        self._fitness.clear()
        self._progress.update(self._task, description=f"seed {seed}", completed=self._done)

    def generation(self, record: Entry) -> None:
        """A generation is done."""
        self._done += 1
        self._seconds.append(record["seconds"]["total"])
        self._fitness.append(_mean(record["fitness"]))
        curve = " ".join(f"{value:.3f}" for value in self._fitness)
        kept = f"{_mean(record['kept']):.0%}"
        self._progress.update(
            self._task,
            completed=self._done,
            state=f"fitness {curve}, kept {kept}, {self._time_left()} left",
        )

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        self._progress.console.print(text, highlight=False)

    def _time_left(self) -> str:
        left = sum(self._seconds) / len(self._seconds) * max(0, self._total - self._done)
        return f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"


def _mean(values: Sequence[float | None]) -> float:
    """Mean of what is a number."""
    finite = [value for value in values if value is not None]
    return sum(finite) / len(finite)
