"""The memory tasks by their names; here, so that a name is known where the packages are missing."""

from transfer.envs.environment import Environment


def _named(
    name: str, place: str, horizon: int, extra: str = "", target: float = 1.0
) -> Environment:
    return Environment(
        f"transfer.envs.memory.{place}",
        name=name,
        targets=(target,),
        horizon=horizon,
        success=True,
        cues=True,
        extra=extra,
    )


TMAZE = _named("tmaze", "corridor:TMaze-v0", 200)
GATES = _named("gates", "corridor:Gates-v0", 200)
GATES4 = _named("gates4", "corridor:Gates4-v0", 200)
MINIGRID_MEMORY = _named("minigrid-memory", "minigrid:MiniGridMemory-v0", 124, "memory")
REPEAT_PREVIOUS = _named("repeat-previous", "popgym:RepeatPrevious-v0", 51, "memory")
AUTOENCODE = _named("autoencode", "popgym:Autoencode-v0", 103, "memory")
# Cards that nobody has seen cost something to turn over: an expert's return is 0.82.
CONCENTRATION = _named("concentration", "popgym:Concentration-v0", 104, "memory", target=0.8)
