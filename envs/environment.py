"""What an environment is, and its way from a name: `hopper`, one from outside, or any Gymnasium id.

Settings follow a colon, `tmaze:length=400`, and go to the environment when it is made. Whatever its
spaces are, it is seen as vectors here; see `transfer.envs.spaces`.

Version v4 is the default of D4RL's three: its rewards, observations and resets are those of the v2
environments that D4RL's data were recorded in. v5 pays no healthy reward on the terminal step and
changes the friction of Walker2d's feet.
"""

import math
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from inspect import signature
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from transfer.arguments import check_fields, literal, shown, typed
from transfer.envs import spaces
from transfer.envs.mujoco import without_advice
from transfer.errors import UserError, unknown_name
from transfer.plugins import ENVIRONMENTS

VERSIONS = ("v4", "v5")
#: The three of D4RL's locomotion.
D4RL = ("hopper", "halfcheetah", "walker2d")
#: Of D4RL's data, by their names.
QUALITIES = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")


@dataclass(frozen=True)
class Environment:
    """An environment to roll out in, and what its returns are worth.

    Attributes:
        id: Gymnasium's, or `module:id` where the module registers it.
        random: mean return of a random policy; None: scores are plain returns.
        expert: mean return of an expert, scored 100.
        targets: returns to ask a Decision Transformer for, the best first.
        horizon: steps of the longest episode.
        name: as it is called here; by default the id.
        success: it says in `info["success"]` of an episode's last step how far the episode
            succeeded, from 0 to 1.
        cues: it says in `info["cue"]` which observations have to be remembered.
        extra: of this package, that brings what it needs.
        settings: that it is made with.

    Raises:
        UserError: only one of the two references is there, or they are not in order.
    """

    id: str
    random: float | None = None
    expert: float | None = None
    targets: tuple[float, ...] = ()
    horizon: int = 1000
    name: str = ""
    success: bool = False
    cues: bool = False
    extra: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.random is None or self.expert is None:
            usable = self.random is self.expert
        else:
            usable = self.random < self.expert
        if not usable:
            raise UserError(
                f"environment {self.id} has the references random={self.random} and "
                f"expert={self.expert}; give two returns, expert above random, or neither"
            )
        numbers = [one for one in (self.random, self.expert, *self.targets) if one is not None]
        if not all(map(math.isfinite, numbers)):
            raise UserError(f"environment {self.id} has the returns {numbers}; use finite numbers")
        if self.horizon < 1:
            raise UserError(f"environment {self.id} has horizon {self.horizon}; use 1 or more")
        object.__setattr__(self, "name", self.name or self.id)

    @property
    def metric(self) -> str:
        """What episodes are judged by: `success` or `d4rl_score`, or without either `return`."""
        if self.success:
            return "success"
        return "return" if self.random is None else "d4rl_score"

    @property
    def title(self) -> str:
        """What is played, as results call it: Gymnasium's id or, of our own, the name; settings."""
        return self._with_settings(self.name if ":" in self.id else self.id)

    @property
    def spelled(self) -> str:
        """Name and settings, as `environment` takes them.

        Raises:
            UserError: a setting is nothing that can be written and read again.
        """
        for name, value in self.settings.items():
            if not isinstance(value, str) and isinstance(literal(str(value)), str):
                raise UserError(
                    f"environment {self.name} has the setting {name} {shown(value)}, which cannot "
                    "be written down; use finite numbers, texts, and lists of them"
                )
        other = self.name in D4RL and not self.id.endswith(VERSIONS[0])
        return self._with_settings(self.id if other else self.name)

    def _with_settings(self, base: str) -> str:
        said = ",".join(f"{name}={_spelled(value)}" for name, value in self.settings.items())
        return f"{base}:{said}" if said else base

    def score(self, returns: float | np.ndarray) -> float | np.ndarray:
        """D4RL's, 100 (return - random) / (expert - random), of a return or an array of them."""
        if self.random is None or self.expert is None:
            return returns
        return 100.0 * (returns - self.random) / (self.expert - self.random)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of an observation and of an action.

        Raises:
            UserError: they have no fixed number, or the environment cannot be made.
        """
        return _probed(self)[:2]

    @property
    def choices(self) -> tuple[int, ...]:
        """Values of each choice of an action, whose numbers are one-hot; () if it is real.

        Raises:
            UserError: as `sizes`.
        """
        return _probed(self)[2]

    @property
    def picture(self) -> tuple[int, ...]:
        """Shape of an observation that can be seen as one picture; () if it is none.

        Raises:
            UserError: as `sizes`.
        """
        return _probed(self)[4]


# Mean returns of a random and an expert policy from D4RL's infos.py, the same for every quality;
# targets of the Decision Transformer's authors.
HOPPER = Environment("Hopper-v4", -20.272305, 3234.3, (3600.0, 1800.0), name="hopper")
HALFCHEETAH = Environment(
    "HalfCheetah-v4", -280.178953, 12135.0, (12000.0, 6000.0), name="halfcheetah"
)
WALKER2D = Environment("Walker2d-v4", 1.629008, 4592.3, (5000.0, 2500.0), name="walker2d")

#: A name and what follows it: a colon, and the first word before an equals sign.
_SETTINGS = re.compile(r"(.*?):([^:=]*=.*)", re.DOTALL)
_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
#: Texts that need no quotes, unless they look like something else.
_PLAIN = re.compile(r"[\w./+-]*")
#: Of `gymnasium.make`, and of what is drawn: they would cut episodes, or open windows.
_RESERVED = {*signature(gymnasium.make).parameters, "render_mode"} - {"kwargs"}

_D4RL = re.compile(rf"({'|'.join(D4RL)})(?:-(v\d+)|-({'|'.join(QUALITIES)})-v2)?", re.IGNORECASE)


@typed
def environment(name: str, version: str | None = None) -> Environment:
    """The environment behind a name.

    Args:
        name: hopper, halfcheetah or walker2d, by id (`Hopper-v5`) or data (`hopper-medium-v2`) too;
            another of ours, such as tmaze; a registered one or an entry point's;
            `package.module:ATTRIBUTE`; or an id of Gymnasium, `package.module:Id-v0` where that
            module registers it. Settings may follow a colon: `tmaze:length=400`.
        version: v4 or v5 of the first three; by default the one within `name`, or v4.

    Raises:
        UserError: no such environment, a version that is no longer run or not the one within
            `name`, settings that it does not take, or observations or actions that are no fixed
            number of numbers.
    """
    name, settings = parted(name)
    found = _named(name, version)
    if settings:
        found = replace(found, settings={**found.settings, **settings})
    # So that what cannot be made is refused here.
    horizon = _probed(found)[3]
    follows = settings or found.name == found.id
    return replace(found, horizon=horizon) if horizon and follows else found


def _named(name: str, version: str | None) -> Environment:
    if named := _D4RL.fullmatch(name):
        said = named[2] and named[2].lower()
        if said and version not in (None, said):
            raise UserError(
                f"environment {name} is of version {said}, not {version}; leave one of the two out"
            )
        return _versioned(ENVIRONMENTS.get(named[1].lower()), said or version or VERSIONS[0])
    if version is not None:
        raise UserError(
            f"environment {name} has no version {version}, which {', '.join(D4RL)} alone have; "
            "leave --env-version out"
        )
    module, _, attribute = name.partition(":")
    if name in ENVIRONMENTS or (module and attribute.isidentifier()):
        return replace(ENVIRONMENTS.get(name), name=name)
    horizon = _spec(name).max_episode_steps
    return Environment(name, horizon=horizon or Environment.horizon)


def parted(name: str) -> tuple[str, dict[str, Any]]:
    """A name without its settings, and these.

    Raises:
        UserError: one is said twice.
    """
    found = _SETTINGS.fullmatch(name)
    if not found:
        return name, {}
    settings: dict[str, Any] = {}
    for part in _parts(found[2]):
        key, _, text = part.partition("=")
        if key.strip() in settings:
            raise UserError(f"environment {name!r} says {key.strip()} twice; say it once")
        settings[key.strip()] = literal(text.strip())
    return found[1], settings


def _parts(said: str) -> list[str]:
    """Settings apart: by the commas that are in no bracket and no quotes."""
    parts: list[str] = []
    for piece in said.split(","):
        rest = _QUOTED.sub("", parts[-1]) if parts else ""
        opened, closed = (sum(map(rest.count, marks)) for marks in ("[({", "])}"))
        if opened > closed or "'" in rest or '"' in rest:
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts


def _spelled(value: Any) -> str:
    """A setting as `parted` reads it: a text in quotes where it would be read as something else."""
    plain = not isinstance(value, str) or (_PLAIN.fullmatch(value) and literal(value) == value)
    return str(value) if plain else repr(value)


@typed
def data_quality(name: str | None) -> str | None:
    """The data that one of D4RL's names is of: `medium` for `hopper-medium-v2`; else None."""
    named = _D4RL.fullmatch(name or "")
    return named[3].lower() if named and named[3] else None


@typed
def env_name(name: str) -> str:
    """What an environment is called: `hopper` for `Hopper-v4` and `hopper-medium-v2`."""
    return environment(name).name


@typed
def env_id(name: str, version: str | None = None) -> str:
    """Gymnasium's id of an environment; see `environment`."""
    return environment(name, version).id


@typed
def make_env(
    env: Environment | str, version: str | None = None, render_mode: str | None = None
) -> gymnasium.Env:
    """One environment without Gymnasium's checks of every step.

    Raises:
        UserError: there is none of that name, or it cannot be made or rendered.
    """
    found = environment(env, version) if isinstance(env, str) else env
    return _made(found, render_mode)


@typed
def make_envs(
    env: Environment | str, count: int, version: str | None = None, *, video: bool = False
) -> list[gymnasium.Env]:
    """Make `count` environments of one kind.

    Args:
        env: an environment, or a name as `environment` takes it.
        count: how many, at least 1.
        version: v4 or v5, of a name.
        video: the first one can `render()` frames of height x width x 3 bytes.

    Raises:
        UserError: as `make_env`.
    """
    if count < 1:
        raise UserError(f"{count} environments were asked for; ask for at least 1")
    first = make_env(env, version, "rgb_array" if video else None)
    return [first, *(make_env(env, version) for _ in range(count - 1))]


def _versioned(found: Environment, version: str) -> Environment:
    if version not in VERSIONS:
        raise UserError(
            f"environment version {version!r} of {found.name} cannot be run here (v2 and v3 need"
            f" mujoco-py); use v4, which has the same rewards and observations, or v5"
        )
    return replace(found, id=f"{found.id.removesuffix('-v4')}-{version}")


def _spec(identifier: str, extra: str = "") -> EnvSpec:
    """Gymnasium's entry of an id; a module before a colon is imported, which registers it."""
    module, _, name = identifier.rpartition(":")
    if module:
        _import(identifier, module, extra)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        near = get_close_matches(identifier, gymnasium.registry)
        raise unknown_name("environment", identifier, [*ENVIRONMENTS, *near]) from error


def _import(identifier: str, module: str, extra: str) -> None:
    try:
        ENVIRONMENTS.imported(identifier, module)
    except UserError as error:
        if not extra:
            raise
        raise UserError(
            f"environment {identifier} cannot be imported; run `pip install namm-transfer[{extra}]`"
        ) from error


def _made(found: Environment, render_mode: str | None) -> gymnasium.Env:
    spec = _spec(found.id, found.extra)
    # Without one it is not said: not every constructor knows the word.
    drawn = {"render_mode": render_mode} if render_mode else {}
    if taken := sorted(_RESERVED & found.settings.keys()):
        raise UserError(
            f"environment {found.title} has the setting {taken[0]}, which is Gymnasium's and not "
            "the environment's; leave it out"
        )
    of_mujoco = str(spec.entry_point).startswith("gymnasium.envs.mujoco")
    try:
        if render_mode:
            _check_renders(found, spec, render_mode)
        with without_advice() if of_mujoco else nullcontext():
            env = gymnasium.make(spec, disable_env_checker=True, **drawn, **found.settings)
    except UserError:
        raise
    # What the constructor of an environment raises is its own: a missing package, file or display.
    except Exception as error:
        raise UserError(
            f"environment {found.title} cannot be made ({type(error).__name__}: {error}); "
            "install what it needs, change its settings, or name another"
        ) from error
    return _as_vectors(found, env)


def _check_renders(found: Environment, spec: EnvSpec, mode: str) -> None:
    creator = spec.entry_point
    creator = load_env_creator(creator) if isinstance(creator, str) else creator
    metadata = getattr(creator, "metadata", None)
    if isinstance(metadata, dict) and mode not in metadata.get("render_modes", ()):
        raise UserError(
            f"environment {found.title} draws no pictures ({mode}); leave out --video, or name "
            "another"
        )


_Probe = tuple[int, int, tuple[int, ...], int | None, tuple[int, ...]]
_PROBED: dict[str, _Probe] = {}


def _probed(found: Environment) -> _Probe:
    """Sizes, choices and picture of `Environment`, and the horizon if its settings decide it."""
    # Settings may be of any kind, lists too.
    key = repr((found.id, found.extra, dict(found.settings)))
    if key not in _PROBED:
        _PROBED[key] = _probe(found)
    return _PROBED[key]


def _probe(found: Environment) -> _Probe:
    env = make_env(found)
    env.close()
    seen, acted = spaces.width(env.observation_space), spaces.width(env.action_space)
    horizon = getattr(env.unwrapped, "horizon", None)
    known = isinstance(horizon, int) and (env.spec is None or not env.spec.max_episode_steps)
    native = spaces.own(env)
    choices, picture = spaces.choices(native.action_space), spaces.picture(native.observation_space)
    return seen, acted, choices, horizon if known else None, picture


def _as_vectors(found: Environment, env: gymnasium.Env) -> gymnasium.Env:
    try:
        return spaces.as_vectors(env)
    except UserError as error:
        env.close()
        raise UserError(f"environment {found.title} cannot be taken: {error}") from error
