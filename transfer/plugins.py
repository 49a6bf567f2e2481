"""From a name to an object: built in, `module:attribute`, registered, or an entry point.

One registry for each kind of thing that can be added from outside. Built-in things are named by
strings and imported when they are asked for, so that no room has to import those above it and
`--help` does not wait for torch. What comes from outside is checked before it is used.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from transfer.arguments import shown, typed
from transfer.errors import UserError, unknown_name

T = TypeVar("T")


def check_installed(where: Path, name: str) -> None:
    """Refuse `module:attribute` that a file names and whose module lies in the current folder only.

    What a user names may lie there; what a stranger's file names may have come with it.

    Raises:
        UserError: it does, or there is no such module.
    """
    top = name.partition(":")[0].partition(".")[0]
    if ":" in name and top not in sys.modules and not (top.isidentifier() and find_spec(top)):
        raise UserError(
            f"{where} names {name!r}, and no module {top} is installed; install it, or set "
            "PYTHONPATH to the folder it is in if you trust it"
        )


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Everything of one kind, by name.

    Attributes:
        kind: in a word, as sentences name it.
        group: the entry points through which other packages add to it.
        base: what each thing is a subclass or an instance of, as `module:attribute`.
        built_in: names of this package's own, as `module:attribute`.
        subclass: things are classes, otherwise instances.
        required: attributes that a thing must have beside the methods that `base` leaves open.
    """

    kind: str
    group: str
    base: str
    built_in: Mapping[str, str]
    subclass: bool = True
    required: tuple[str, ...] = ()
    _registered: dict[str, T] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """All names, those from outside last."""
        outside = sorted({*self._registered, *(point.name for point in self._entry_points())})
        return iter(dict.fromkeys([*self.built_in, *outside]))

    def __contains__(self, name: object) -> bool:
        if name in self.built_in or name in self._registered:
            return True
        return any(point.name == name for point in self._entry_points())

    @typed
    def get(self, name: str) -> T:
        """The thing behind a name, or behind `package.module:attribute`.

        Built-in names go first: no package can change what they mean.

        Raises:
            UserError: nothing has this name, it cannot be imported, or it is no such thing.
        """
        if name in self.built_in:
            return _attribute(*_split(self.built_in[name]))
        if name in self._registered:
            return self._registered[name]
        offered = {point.value: point for point in self._entry_points() if point.name == name}
        if len(offered) > 1:
            raise UserError(
                f"{self.kind} {name!r} is offered by more than one package; "
                f"name one of {' and '.join(sorted(offered))} instead"
            )
        if offered or all(_split(name)):
            return self.checked(name, self._loaded(name, next(iter(offered), name)))
        raise unknown_name(self.kind, name, self, "one of your own: package.module:Name")

    @typed
    def register(self, name: str, thing: T) -> None:
        """Add a thing of the caller's own under a name, for this process.

        Raises:
            UserError: the name is taken, or it is no such thing.
        """
        if not name:
            raise UserError(f"a {self.kind} needs a name; give it one")
        if name in self:
            raise UserError(f"{self.kind} {name!r} is there already; choose another name")
        self._registered[name] = self.checked(name, thing)

    def checked(self, name: str, thing: Any) -> T:
        """The thing itself, once it is known to be usable.

        Raises:
            UserError: what it lacks, in a sentence.
        """
        base: Any = _attribute(*_split(self.base))
        mro = getattr(thing, "__mro__", ())
        if not (base in mro if self.subclass else isinstance(thing, base)):
            what = "a subclass" if self.subclass else "an instance"
            raise UserError(
                f"{self.kind} {name!r} is {shown(thing)}; it must be {what} of {self.base}"
            )
        missing = sorted(getattr(thing, "__abstractmethods__", ()))
        missing += [attribute for attribute in self.required if not hasattr(thing, attribute)]
        if missing:
            raise UserError(
                f"{self.kind} {name!r} lacks {', '.join(missing)}; define what {self.base} asks for"
            )
        return thing

    def imported(self, name: str, module: str) -> ModuleType:
        """Import the module behind a name, from the folder where the command runs too.

        Raises:
            UserError: it cannot be imported.
        """
        # A command's own folder is not on the path, and new things are tried from where one stands.
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        if module.endswith(".py"):
            raise UserError(
                f"{self.kind} {name!r} names a file; name its module from the folder it lies in, "
                f"as {Path(module).stem}:{name.rpartition(':')[2]}"
            )
        try:
            return import_module(module)
        # Somebody else's module may raise anything, and a script may leave.
        except (Exception, SystemExit) as error:
            raise self._unusable(name, error) from error

    def _loaded(self, name: str, spelled: str) -> Any:
        module, attribute = _split(spelled)
        self.imported(name, module)
        try:
            return _attribute(module, attribute)
        except AttributeError as error:
            # A file may be called as a module that Python brings.
            found = getattr(sys.modules[module], "__file__", None) or "Python itself"
            raise self._unusable(name, AttributeError(f"{error}, found in {found}")) from error

    def _unusable(self, name: str, error: BaseException) -> UserError:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return UserError(
            f"{self.kind} {name!r} cannot be imported ({reason}); check the "
            "spelling, and that its package is installed and works, or lies in this folder"
        )

    def _entry_points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self.group))


def _split(spelled: str) -> tuple[str, str]:
    """Module and attribute of `module:attribute`; either may be empty."""
    module, _, attribute = spelled.partition(":")
    return module, attribute


def _attribute(module: str, path: str) -> Any:
    return attrgetter(path)(import_module(module))


POLICIES: Registry[type] = Registry(
    kind="policy",
    group="transfer.policies",
    base="transfer.cache.policy:Policy",
    required=("name",),
    built_in={
        "criticalkv": "transfer.policies.criticalkv:CriticalKV",
        "expected_attention": "transfer.policies.expected_attention:ExpectedAttention",
        "fastgen": "transfer.policies.fastgen:FastGen",
        "full": "transfer.policies.full:Full",
        "h2o": "transfer.policies.h2o:H2O",
        "h2o_age": "transfer.policies.h2o_age:H2OAge",
        "keydiff": "transfer.policies.keydiff:KeyDiff",
        "l2_norm": "transfer.policies.l2_norm:L2Norm",
        "lagkv": "transfer.policies.lagkv:LagKV",
        "namm": "transfer.policies.namm:NAMMPolicy",
        "pyramidkv": "transfer.policies.pyramidkv:PyramidKV",
        "random": "transfer.policies.random:Random",
        "recency": "transfer.policies.recency:Recency",
        "snapkv": "transfer.policies.snapkv:SnapKV",
        "tova": "transfer.policies.tova:TOVA",
        "vatp": "transfer.policies.vatp:VATP",
    },
)
#: By `config.model_type`.
ADAPTERS: Registry[type] = Registry(
    kind="adapter",
    group="transfer.adapters",
    base="transfer.attachment.adapter:Adapter",
    built_in={
        "decision_transformer": "transfer.adapters.decision_transformer:DecisionTransformerAdapter",
        "llava_next_video": "transfer.adapters.llava_next_video:LlavaNextVideoAdapter",
        "llava_onevision": "transfer.adapters.llava_onevision:LlavaOnevisionAdapter",
        "qwen2_vl": "transfer.adapters.qwen2_vl:Qwen2VLAdapter",
        "qwen2_5_vl": "transfer.adapters.qwen2_vl:Qwen2VLAdapter",
        "smolvlm": "transfer.adapters.smolvlm:SmolVLMAdapter",
        **dict.fromkeys(
            (
                "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral",
                "olmo2", "opt", "phi3", "qwen2", "qwen3",
            ),
            "transfer.adapters.causal_lm:CausalLMAdapter",
        ),
        **dict.fromkeys(
            (
                "diffllama", "dory", "hrm_text", "inkling2_loop_text", "inkling2_text", "jetmoe",
                "minimax", "xlstm", "zamba", "zamba2",
            ),
            "transfer.adapters.refused:RefusedAdapter",
        ),
    },
)  # fmt: skip
ENVIRONMENTS: Registry[Any] = Registry(
    kind="environment",
    group="transfer.environments",
    base="transfer.envs.environment:Environment",
    subclass=False,
    built_in={
        "hopper": "transfer.envs.environment:HOPPER",
        "halfcheetah": "transfer.envs.environment:HALFCHEETAH",
        "walker2d": "transfer.envs.environment:WALKER2D",
        "tmaze": "transfer.envs.memory.named:TMAZE",
        "gates": "transfer.envs.memory.named:GATES",
        "gates4": "transfer.envs.memory.named:GATES4",
        "minigrid-memory": "transfer.envs.memory.named:MINIGRID_MEMORY",
        "repeat-previous": "transfer.envs.memory.named:REPEAT_PREVIOUS",
        "autoencode": "transfer.envs.memory.named:AUTOENCODE",
        "concentration": "transfer.envs.memory.named:CONCENTRATION",
    },
)
BENCHMARKS: Registry[type] = Registry(
    kind="benchmark",
    group="transfer.benchmarks",
    base="transfer.evaluation.benchmark:Benchmark",
    built_in={
        "control": "transfer.evaluation.control_benchmark:ControlBenchmark",
        "language": "transfer.evaluation.language_benchmark:LanguageBenchmark",
        "perplexity": "transfer.evaluation.perplexity_benchmark:PerplexityBenchmark",
        "text": "transfer.evaluation.text_benchmark:TextBenchmark",
        "video": "transfer.evaluation.video_benchmark:VideoBenchmark",
    },
)
FEATURES: Registry[Any] = Registry(
    kind="feature",
    group="transfer.features",
    base="transfer.namm.features:Feature",
    subclass=False,
    required=("state_size", "width"),
    built_in={
        "ages": "transfer.namm.features.place:AGES",
        "log": "transfer.namm.features.log:LOG",
        "norms": "transfer.namm.features.norms:NORMS",
        "place": "transfer.namm.features.place:PLACE",
        "rates": "transfer.namm.features.rates:RATES",
        "relative": "transfer.namm.features.relative:RELATIVE",
        "relative_slow": "transfer.namm.features.relative:RELATIVE_SLOW",
        "sink": "transfer.namm.features.place:SINK",
        "slow": "transfer.namm.features.log:SLOW",
        "spec": "transfer.namm.features.spec:SPEC",
        "two_decays": "transfer.namm.features.joined:TWO_DECAYS",
        "universal": "transfer.namm.features.joined:UNIVERSAL",
        "universal_norms": "transfer.namm.features.joined:UNIVERSAL_NORMS",
        "unlike": "transfer.namm.features.unlike:UNLIKE",
    },
)
SCORERS: Registry[Any] = Registry(
    kind="scorer",
    group="transfer.scorers",
    base="transfer.namm.scorers:Scorer",
    subclass=False,
    built_in={
        "bam": "transfer.namm.scorers.bam:BAM",
        "linear": "transfer.namm.scorers.linear:LINEAR",
        "mlp": "transfer.namm.scorers.mlp:MLP",
    },
)

_REGISTRIES: Mapping[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (POLICIES, ADAPTERS, ENVIRONMENTS, BENCHMARKS, FEATURES, SCORERS)
}


@typed
def register(kind: str, name: str, thing: Any) -> None:
    """Add something of your own under a name, for this process and not for its workers.

    A package does it once for every process with an entry point instead, in the group
    `transfer.policies`, `.adapters`, `.environments`, `.benchmarks`, `.features` or `.scorers`.

    Args:
        kind: policy, adapter (its name is the model's `config.model_type`), environment,
            benchmark, feature or scorer.
        name: as the command line and the library's functions take it.
        thing: a class of the first kinds' base, an instance of an environment, feature or scorer.

    Raises:
        UserError: no such kind, the name is taken, or the thing lacks something, which is named.
    """
    if kind not in _REGISTRIES:
        raise unknown_name("kind of plugin", kind, _REGISTRIES)
    _REGISTRIES[kind].register(name, thing)
