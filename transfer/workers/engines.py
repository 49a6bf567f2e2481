"""The engines by name."""

from typing import TYPE_CHECKING

from transfer.errors import unknown_name

if TYPE_CHECKING:
    from transfer.workers.base import Engine, Make

#: What `make_engine` knows.
ENGINES = ("in-process", "processes", "ray")


def make_engine(
    name: str, make: "Make", workers: int = 2, threads: int | None = None, device: str = "cpu"
) -> "Engine":
    """An engine by name.

    Args:
        name: in-process, processes (on this machine), or ray (many machines).
        make: called with the device in each worker at its first job; the methods of what it
            returns do the jobs. Picklable, as a class or a `functools.partial` of one.
        workers: processes, or actors of Ray.
        threads: of torch in each worker; None: as it likes.
        device: of the models. On `cuda` each worker has a GPU, in turn.

    Raises:
        UserError: no engine has this name, or Ray is not installed.
    """
    if name == "in-process":
        from transfer.workers.base import InProcess

        return InProcess(make, device, threads)
    if name == "processes":
        from transfer.workers.processes import Processes

        return Processes(make, workers, threads, device)
    if name == "ray":
        from transfer.workers.ray import RayActors

        return RayActors(make, workers, threads, device)
    raise unknown_name("engine", name, ENGINES)
