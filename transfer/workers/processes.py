"""Workers in processes of their own on this machine."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from transfer.errors import SimulationError, UserError
from transfer.workers.base import LostWorker, Make, Pool, Worker


@dataclass(frozen=True)
class _Child:
    process: BaseProcess
    connection: Connection


class Processes(Pool[_Child]):
    """Worker processes; on `cuda` each has a GPU of its own, in turn.

    Args:
        make: what does the jobs, see `Make`.
        workers: how many.
        threads: of torch in each; None: as it likes.
        device: of all, or `cuda`.
    """

    def __init__(self, make: Make, workers: int, threads: int | None, device: str) -> None:
        self._make, self._threads, self._device = make, threads, device
        self._gpus = torch.cuda.device_count() if device == "cuda" else 0
        super().__init__(workers)

    def _start(self, seat: int) -> _Child:
        device = f"cuda:{seat % self._gpus}" if self._gpus else self._device
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        worker = Worker(self._make, device, self._threads)
        process = context.Process(target=_serve, args=(there, worker), daemon=True)
        with _deaf_to_interrupts():
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
            worker.process.join()
            raise LostWorker(f"exit code {worker.process.exitcode}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _stop(self, worker: _Child) -> None:
        worker.connection.close()
        worker.process.kill()
        worker.process.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started here never hears Ctrl-C; the parent hears it afterwards, and stops it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Where it has to be started first, that would end the deafness.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, worker: Worker) -> None:
    """The life of a worker process; it ends with its parent, whose end of the pipe then closes."""
    # Where nothing can be started deaf, this comes at the first moment it can.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            connection.send(_answer(worker, *connection.recv()))


def _end_with_parent() -> None:
    """A long job would not notice before its end that nobody waits for it any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _answer(worker: Worker, task: str, job: Any) -> Any:
    try:
        return worker.do(task, job)
    except (UserError, SimulationError) as error:
        return error
    except Exception:
        return RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
