"""Where jobs are done: in this process, in worker processes, or in Ray's actors.

An engine maps jobs to results and decides nothing else, so all engines give the same numbers. A
worker that is lost is replaced, and its job is done again.
"""

import multiprocessing
import signal
import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import torch

from transfer.errors import UserError, unknown_name
from transfer.evolution.evaluator import Evaluator, EvaluatorSettings

#: How often a job may lose its worker before the job itself is suspected.
LOSSES = 3
WorkerT = TypeVar("WorkerT")


class LostWorker(Exception):
    """A worker is gone without an answer."""


class Engine(ABC):
    """Does jobs; a context manager."""

    @abstractmethod
    def map(self, task: str, jobs: Sequence[Any]) -> list[Any]:
        """Do every job.

        Args:
            task: the method of `Evaluator` that does them.
            jobs: its arguments.

        Returns:
            The results, in the order of the jobs.

        Raises:
            UserError: what a job raised, or a job that costs one worker after the other.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of models and workers."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class InProcess(Engine):
    """One job after the other, here."""

    def __init__(self, settings: EvaluatorSettings) -> None:
        self._threads = torch.get_num_threads()
        self._evaluator = Evaluator(settings)

    def map(self, task: str, jobs: Sequence[Any]) -> list[Any]:
        """Do every job, see `Engine.map`."""
        return [getattr(self._evaluator, task)(job) for job in jobs]

    def close(self) -> None:
        """Give torch its threads back."""
        torch.set_num_threads(self._threads)


class Pool(Engine, Generic[WorkerT]):
    """Workers that each do one job at a time, and may be lost."""

    def __init__(self, workers: int) -> None:
        self._started = 0
        self._idle = [self._next_worker() for _ in range(workers)]
        self._busy: dict[int, WorkerT] = {}

    @abstractmethod
    def _start(self, index: int) -> WorkerT:
        """Start the `index`-th worker."""

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
        """Stop a worker, busy or not."""

    def map(self, task: str, jobs: Sequence[Any]) -> list[Any]:
        """Do every job, see `Engine.map`."""
        results: list[Any] = [None] * len(jobs)
        waiting, losses = deque(range(len(jobs))), Counter[int]()
        while waiting or self._busy:
            while waiting and self._idle:
                number, worker = waiting.popleft(), self._idle.pop()
                self._busy[number] = worker
                self._submit(worker, task, jobs[number])
            number = self._ready_number()
            worker = self._busy.pop(number)
            try:
                results[number] = self._answer(worker)
            except LostWorker as error:
                losses[number] += 1
                if losses[number] == LOSSES:
                    raise _suspicious(error) from error
                waiting.appendleft(number)
                worker = self._next_worker()
            self._idle.append(worker)
        return results

    def close(self) -> None:
        """Stop all workers."""
        for worker in (*self._idle, *self._busy.values()):
            self._stop(worker)

    def _next_worker(self) -> WorkerT:
        self._started += 1
        return self._start(self._started - 1)

    def _ready_number(self) -> int:
        ready = self._first_ready(self._busy.values())
        return next(number for number, worker in self._busy.items() if worker is ready)


def _suspicious(error: LostWorker) -> UserError:
    return UserError(
        f"a job lost its worker {LOSSES} times ({error}); give workers more memory, or fewer "
        "--rows, and repeat the command with --resume"
    )


class LazyEvaluator:
    """An `Evaluator` made at its first job, so that what is wrong with a model is an answer."""

    def __init__(self, settings: EvaluatorSettings) -> None:
        self._settings = settings
        self._evaluator: Evaluator | None = None

    def do(self, task: str, job: Any) -> Any:
        """Do one job."""
        if self._evaluator is None:
            self._evaluator = Evaluator(self._settings)
        return getattr(self._evaluator, task)(job)


@dataclass(frozen=True)
class _Child:
    process: BaseProcess
    connection: Connection


class Processes(Pool[_Child]):
    """Worker processes on this machine; on `cuda` each has a GPU of its own, in turn."""

    def __init__(self, settings: EvaluatorSettings, workers: int) -> None:
        self._settings = settings
        self._gpus = torch.cuda.device_count() if settings.device == "cuda" else 0
        super().__init__(workers)

    def _start(self, index: int) -> _Child:
        device = f"cuda:{index % self._gpus}" if self._gpus else self._settings.device
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        settings = replace(self._settings, device=device)
        process = context.Process(target=_serve, args=(there, settings), daemon=True)
        process.start()
        there.close()
        return _Child(process, here)

    def _submit(self, worker: _Child, task: str, job: Any) -> None:
        # If it is gone, waiting for its answer says so.
        with suppress(OSError):
            worker.connection.send((task, job))

    def _first_ready(self, workers: Iterable[_Child]) -> _Child:
        children = {child.connection: child for child in workers}
        ready = wait(list(children))[0]
        return next(child for connection, child in children.items() if connection is ready)

    def _answer(self, worker: _Child) -> Any:
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError) as error:
            self._stop(worker)
            raise LostWorker(f"exit code {worker.process.exitcode}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _stop(self, worker: _Child) -> None:
        worker.connection.close()
        worker.process.kill()
        worker.process.join()


def _serve(connection: Connection, settings: EvaluatorSettings) -> None:
    """The life of a worker process; it ends with its parent, whose end of the pipe then closes."""
    # Ctrl-C is for the parent, which then stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    evaluator = LazyEvaluator(settings)
    with suppress(EOFError, OSError):
        while True:
            connection.send(_answer(evaluator, *connection.recv()))


def _answer(evaluator: LazyEvaluator, task: str, job: Any) -> Any:
    try:
        return evaluator.do(task, job)
    except UserError as error:
        return error
    except Exception:
        return RuntimeError(f"a worker failed:\n{traceback.format_exc()}")


def make_engine(name: str, settings: EvaluatorSettings, workers: int) -> Engine:
    """An engine by name: in-process, processes, or ray.

    Raises:
        UserError: no engine has this name, or Ray is not installed.
    """
    if name == "in-process":
        return InProcess(settings)
    if name == "processes":
        return Processes(settings, workers)
    if name == "ray":
        from transfer.evolution.ray_engine import RayActors

        return RayActors(settings, workers)
    raise unknown_name("engine", name, ("in-process", "processes", "ray"))
