"""Workers on many machines, as actors of Ray.

`RAY_ADDRESS` names the cluster, as for every Ray program; without it Ray runs on this machine. The
machines need this package and the models at the same names.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transfer.errors import UserError
from transfer.workers.base import LostWorker, Make, Pool, Worker


@dataclass
class _Actor:
    handle: Any
    answer: Any = None


class RayActors(Pool[_Actor]):
    """Actors that hold the models.

    Args:
        make: what does the jobs, see `Make`.
        workers: actors at a time.
        threads: of torch in each, and so many CPUs it asks for; None: one CPU.
        device: of all; on `cuda` each actor asks for one GPU.

    Raises:
        UserError: Ray is not installed, or this machine is too small for so many actors.
    """

    def __init__(self, make: Make, workers: int, threads: int | None, device: str) -> None:
        self._ray = _import_ray()
        gpus = int(device.startswith("cuda"))
        # Ray shows each actor the GPUs that are its own.
        self._worker = make, "cuda" if gpus else device, threads
        self._needs = {"num_cpus": threads or 1, "num_gpus": gpus}
        self._owner = not self._ray.is_initialized()
        if self._owner:
            with _own_sigterm():
                self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        super().__init__(workers)
        if "RAY_ADDRESS" not in os.environ:
            self._check_room()

    def close(self) -> None:
        """Stop the actors, and Ray if it was started here."""
        super().close()
        if self._owner:
            self._ray.shutdown()

    def _check_room(self) -> None:
        """Of actors that find no room Ray says nothing; they would be waited for forever."""
        room, workers = self._ray.cluster_resources(), len(self._seats)
        for option, kind in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            have, need = int(room.get(kind, 0)), workers * self._needs[option]
            if have < need:
                self.close()
                raise UserError(
                    f"{workers} workers need {need} {kind}s, Ray has {have} here; use fewer "
                    "--workers, or name a cluster in RAY_ADDRESS"
                )

    def _start(self, seat: int) -> _Actor:
        actor = self._ray.remote(Worker).options(**self._needs)
        return _Actor(actor.remote(*self._worker))

    def _submit(self, worker: _Actor, task: str, job: Any) -> None:
        worker.answer = worker.handle.do.remote(task, job)

    def _first_ready(self, workers: Iterable[_Actor]) -> _Actor:
        actors = {actor.answer: actor for actor in workers}
        [ready], _ = self._ray.wait(list(actors), num_returns=1)
        return actors[ready]

    def _answer(self, worker: _Actor) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(worker.answer)
        except errors.RayTaskError as error:
            raise error.cause from None
        except (errors.RayActorError, errors.ObjectLostError) as error:
            lines = str(error).splitlines()
            if getattr(error, "actor_init_failed", False):
                raise UserError(
                    f"an actor of Ray cannot be made ({lines[-1]}); install the same packages on "
                    "all its machines"
                ) from error
            raise LostWorker(lines[0]) from error

    def _stop(self, worker: _Actor) -> None:
        self._ray.kill(worker.handle)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """What SIGTERM does here stays as it is; Ray's way ends a run without a summary."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "Ray is not installed; run `pip install namm-transfer[distributed]`, or use "
            "--engine processes"
        ) from error
    return ray
