"""Workers on many machines, as actors of Ray.

`RAY_ADDRESS` names the cluster, as for every Ray program; without it Ray runs on this machine. The
machines need this package and the models at the same names.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transfer.errors import UserError
from transfer.evolution.engines import LazyEvaluator, LostWorker, Pool
from transfer.evolution.evaluator import EvaluatorSettings


@dataclass
class _Actor:
    handle: Any
    answer: Any = None


class RayActors(Pool[_Actor]):
    """Actors that hold the models; a job is a few vectors of some 16 KB.

    Args:
        settings: of the evaluators; on `cuda` each actor asks for one GPU.
        workers: actors at a time.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, settings: EvaluatorSettings, workers: int) -> None:
        self._ray = _import_ray()
        self._settings = settings
        self._owner = not self._ray.is_initialized()
        if self._owner:
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        super().__init__(workers)

    def close(self) -> None:
        """Stop the actors, and Ray if it was started here."""
        super().close()
        if self._owner:
            self._ray.shutdown()

    def _start(self, index: int) -> _Actor:
        gpus = 1 if self._settings.device.startswith("cuda") else 0
        remote = self._ray.remote(LazyEvaluator)
        options = remote.options(num_cpus=self._settings.threads, num_gpus=gpus)
        return _Actor(options.remote(self._settings))

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
        except errors.RayActorError as error:
            raise LostWorker(str(error).splitlines()[0]) from error

    def _stop(self, worker: _Actor) -> None:
        self._ray.kill(worker.handle)


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "Ray is not installed; run `pip install namm-transfer[distributed]`, or use "
            "--engine processes"
        ) from error
    return ray
