"""What maps jobs to results: the engine in this process, and what all pools have in common.

An engine decides nothing but where a job is done, so all engines give the same numbers. A worker
that is lost is replaced, and its job is done again.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from transfer.errors import UserError

#: How often a job may lose its worker before the job itself is suspected.
LOSSES = 3
#: Makes what does the jobs, on a device; it and the jobs must be picklable.
Make = Callable[[str], Any]
WorkerT = TypeVar("WorkerT")


class LostWorker(Exception):
    """A worker is gone without an answer."""


class Engine(ABC):
    """Does jobs; a context manager. It can be used again after a job that failed."""

    @abstractmethod
    def imap(self, task: str, jobs: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        """Do every job, and say of each when it is done; one call at a time.

        Args:
            task: the method of what was made that does them.
            jobs: its arguments.

        Yields:
            The number of a job and its result. Closed early (`contextlib.closing`) or interrupted,
            it leaves no job running.

        Raises:
            UserError: what a job raised, or a job that costs one worker after the other.
        """

    def map(self, task: str, jobs: Sequence[Any]) -> list[Any]:
        """The results of `imap`, in the order of the jobs."""
        results = dict(self.imap(task, jobs))
        return [results[number] for number in range(len(jobs))]

    @abstractmethod
    def close(self) -> None:
        """Let go of models and workers."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Worker:
    """Does jobs with what `make` makes at the first, so that what is wrong with it is an answer.

    Args:
        make: see `Make`.
        device: for `make`.
        threads: of torch; None: as it likes.
    """

    def __init__(self, make: Make, device: str, threads: int | None) -> None:
        self._make, self._device, self._threads = make, device, threads
        self._made: Any = None

    def do(self, task: str, job: Any) -> Any:
        """Do one job."""
        if self._made is None:
            torch.set_num_threads(self._threads or torch.get_num_threads())
            self._made = self._make(self._device)
        return getattr(self._made, task)(job)


class InProcess(Engine):
    """One job after the other, here."""

    def __init__(self, make: Make, device: str, threads: int | None) -> None:
        self._before = torch.get_num_threads()
        self._worker = Worker(make, device, threads)

    def imap(self, task: str, jobs: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        """Do every job, see `Engine.imap`."""
        for number, job in enumerate(jobs):
            yield number, self._worker.do(task, job)

    def close(self) -> None:
        """Give torch its threads back."""
        torch.set_num_threads(self._before)


@dataclass
class Seat(Generic[WorkerT]):
    """A place in a pool.

    Attributes:
        number: from 0 up.
        worker: None before its first job, and when it was lost.
        job: the number of what it is doing.
    """

    number: int
    worker: WorkerT | None = None
    job: int | None = None


class Pool(Engine, Generic[WorkerT]):
    """Workers that each do one job at a time, and may be lost; each is started at its first job."""

    def __init__(self, workers: int) -> None:
        self._seats = [Seat[WorkerT](number) for number in range(workers)]

    @abstractmethod
    def _start(self, seat: int) -> WorkerT:
        """Start a worker for a seat."""

    @abstractmethod
    def _submit(self, worker: WorkerT, task: str, job: Any) -> None:
        """Give a worker a job."""

    @abstractmethod
    def _first_ready(self, workers: Iterable[WorkerT]) -> WorkerT:
        """Wait for a worker that has an answer or is gone."""

    @abstractmethod
    def _answer(self, worker: WorkerT) -> Any:
        """Its answer.

        Raises:
            LostWorker: it is gone.
        """

    @abstractmethod
    def _stop(self, worker: WorkerT) -> None:
        """Stop a worker, busy, idle or gone."""

    def imap(self, task: str, jobs: Sequence[Any]) -> Generator[tuple[int, Any], None, None]:
        """Do every job, see `Engine.imap`."""
        if self._busy():
            raise RuntimeError("an earlier imap of this engine is not done; close it first")
        waiting, losses = deque(range(len(jobs))), Counter[int]()
        try:
            while waiting or self._busy():
                for seat in [seat for seat in self._seats if seat.job is None][: len(waiting)]:
                    self._give(seat, waiting.popleft(), task, jobs)
                seat, worker, number = self._next_ready()
                try:
                    result = self._answer(worker)
                except LostWorker as error:
                    losses[number] += 1
                    if losses[number] == LOSSES:
                        raise _suspicious(error) from error
                    waiting.appendleft(number)
                    self._clear(seat)
                    continue
                seat.job = None
                yield number, result
        finally:
            for seat, *_ in self._busy():
                self._clear(seat)

    def close(self) -> None:
        """Stop all workers."""
        for seat in self._seats:
            self._clear(seat)

    def _busy(self) -> list[tuple[Seat[WorkerT], WorkerT, int]]:
        return [
            (seat, seat.worker, seat.job)
            for seat in self._seats
            if seat.worker is not None and seat.job is not None
        ]

    def _give(self, seat: Seat[WorkerT], number: int, task: str, jobs: Sequence[Any]) -> None:
        if seat.worker is None:
            seat.worker = self._start(seat.number)
        # First, because a worker that was interrupted while it was given a job has to be stopped.
        seat.job = number
        self._submit(seat.worker, task, jobs[number])

    def _next_ready(self) -> tuple[Seat[WorkerT], WorkerT, int]:
        busy = self._busy()
        ready = self._first_ready([worker for _, worker, _ in busy])
        return next(entry for entry in busy if entry[1] is ready)

    def _clear(self, seat: Seat[WorkerT]) -> None:
        if seat.worker is not None:
            self._stop(seat.worker)
        seat.worker = seat.job = None


def _suspicious(error: LostWorker) -> UserError:
    return UserError(
        f"a job lost its worker {LOSSES} times ({error}); its machine may be short of memory: use "
        "fewer --workers or a larger machine, and repeat the command"
    )
