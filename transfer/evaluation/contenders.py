"""Who is compared: policies by one spelling everywhere, each with how it prunes the cache.

`h2o`, `recency:sinks=0` (also `fifo`), `namm:recall`, `package.module:Class`; after a colon
settings of the policy, and of this contender alone `budget`, `update_interval`, `eviction`,
`keep_recent`, `sinks`, `share`, `share_floor` and `threshold`. Where contenders are made equal, a
`budget` may name its kind alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import UnionType
from typing import Any

from transfer.arguments import literal
from transfer.cache.equal import Course, at_equal_bytes, at_equal_tokens
from transfer.cache.footprint import LayerShape
from transfer.cache.policy import PROTECTING, SHARES, SHARING, Policy, Pruning
from transfer.errors import MOST_TOKENS, UserError
from transfer.evaluation.options import Budget, ContenderOptions, MeasuredOptions
from transfer.evaluation.threshold import read_threshold
from transfer.namm.checkpoint import namm_place
from transfer.namm.network import NAMM
from transfer.plugins import POLICIES
from transfer.policies import get_policy, settings_of
from transfer.policies.namm import NAMMPolicy

ALIASES = {"fifo": "recency:sinks=0"}
#: Settings of the contender, not of its policy, and what they may be.
_OF_PRUNING: Mapping[str, tuple[UnionType | type, str]] = {
    "budget": (int | float | None, "a number or None"),
    "update_interval": (int, "a whole number"),
    "eviction": (str, "exact or reference"),
    **dict.fromkeys(PROTECTING, (int, "a whole number of tokens")),
    "share": (str, " or ".join(SHARES)),
    "share_floor": (int | float, "a number from 0 to 1"),
    "threshold": (int | float | None, "a number or None"),
}
#: Kinds of a budget whose number is that of equal memory.
KINDS = ("fraction", "size")
#: What is equal, in words.
_EQUAL = {"held": "average tokens", "peak": "peak tokens", "bytes": "bytes"}


@dataclass(frozen=True)
class Contender:
    """One memory of a model, by the name it has in the results.

    Attributes:
        name: as it was spelled.
        pruning: of its cache; None: the model as it comes, without a cache of ours.
        like: whose memory its budget makes it equal to.
        pair: of who is run under two shares of a budget, the name without them.
        others: of those made equal that prune just so, and have no rows of their own; in words.
    """

    name: str
    pruning: Pruning | None = None
    like: Pruning | None = field(default=None, compare=False)
    pair: str | None = field(default=None, compare=False)
    others: tuple[str, ...] = field(default=(), compare=False)

    @property
    def key(self) -> tuple[str, Budget]:
        """What tells its rows from others."""
        return self.name, self.settings["budget"]

    @property
    def nominal(self) -> Budget:
        """The budget that it has, or of the NAMM that it is equal to."""
        like = self.like or self.pruning
        return like and like.budget

    @property
    def merged(self) -> str | None:
        """Whose rows its own are too, in a sentence; None: nobody's."""
        if not self.others:
            return None
        return (
            f"{', '.join(self.others)} would be pruned as {self._at_nominal} is, with budget "
            f"{self.key[1]}: one row stands for all"
        )

    @property
    def _at_nominal(self) -> str:
        return self.name if self.nominal is None else f"{self.name} at {self.nominal}"

    @property
    def settings(self) -> dict[str, Any]:
        """How it prunes, as rows say it; None for who never evicts.

        `nominal` is the budget that it has, or of the NAMM that it is equal to.
        """
        if self.pruning is None or not self.pruning.policy.evicts:
            return dict.fromkeys((*_OF_PRUNING, "nominal", "pair"))
        own = {name: getattr(self.pruning, name) for name in _OF_PRUNING}
        shared = {"share": self.pruning.shared_by, "share_floor": self.pruning.floor}
        told = {"nominal": self.nominal, "pair": self.pair}
        return {**own, **shared, "threshold": self.pruning.cutoff, **told}


def full(update_interval: int = 512) -> Contender:
    """The cache that keeps everything."""
    return Contender("full", Pruning(get_policy("full"), update_interval))


@dataclass(frozen=True)
class Spelling:
    """A policy as it was spelled.

    Attributes:
        text: the whole.
        policy: its name; of a policy of the user's own, `module:attribute`.
        namm: of the policy namm, which one; None: those of the options.
        settings: what follows.
    """

    text: str
    policy: str
    namm: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> "Spelling":
        """Take a spelling apart.

        Raises:
            UserError: it begins with no name, or its settings are no `name=value` or given twice.
        """
        name, *rest = text.split(":")
        if "=" in name:
            raise UserError(
                f"policy {text!r} begins with a setting; begin with a name, as in recency:sinks=0"
            )
        settings = [part for part in rest if "=" in part]
        inner = ":".join(part for part in rest if part and part not in settings)
        if name in ALIASES:
            name, meant = ALIASES[name].split(":")
            settings = [meant, *settings]
        policy, namm = (f"{name}:{inner}", None) if inner else (name, None)
        if inner and name == "namm":
            policy, namm = name, inner
        elif inner and name in POLICIES:
            settings = [inner, *settings]
        found = cls(text, policy, namm, _settings(text, ",".join(settings)))
        said = found._of_contender
        if "threshold" in said or said.get("share") == "model":
            found = replace(found, settings={"budget": None, **found.settings})
        return found

    def check_bare(self) -> None:
        """Raise `UserError` where it says what a threshold of a file replaces."""
        for name in sorted(self.settings.keys() & {"budget", *SHARING}):
            raise UserError(
                f"policy {self.text!r} says {name}, which a threshold replaces; leave it out"
            )

    def cut_at(self, threshold: float) -> "Spelling":
        """The same with a threshold in place of budgets."""
        return replace(self, settings={**self.settings, "budget": None, "threshold": threshold})

    def pruning(self, policy: Policy, budget: Budget, options: ContenderOptions) -> Pruning:
        """How a policy of this spelling prunes; what the spelling says goes first.

        Raises:
            UserError: a setting does not fit the policy.
        """
        asked = {name: getattr(options, name) for name in ("update_interval", "eviction")}
        asked |= {name: getattr(options, name) for name in (*PROTECTING, "share", "share_floor")}
        # Sinks that are the policy's own are not protected beside it.
        asked |= dict.fromkeys(self._own.keys() & {*PROTECTING}, 0)
        said = self._of_contender
        spelled = {name: said[name] for name in _OF_PRUNING if name in said}
        if self.kind:
            del spelled["budget"]
        if spelled.get("budget", 0) is None:
            # What the options say is of those that have one.
            asked["share"] = "model"
        for name, value in spelled.items():
            kind, words = _OF_PRUNING[name]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"policy {self.text!r} has the {name} {value!r}; use {words}")
        return Pruning(policy, **{**asked, "budget": budget, **spelled})

    @property
    def kind(self) -> str | None:
        """Of its budget, where the number is to be found; None: it says a number, or nothing."""
        said = self.settings.get("budget")
        return said if said in KINDS else None

    @property
    def _own(self) -> dict[str, Any]:
        """What the spelling says of the policy itself, which may have sinks of its own."""
        known = settings_of(self.policy).keys() & {*PROTECTING, *SHARING}
        return {
            name: value
            for name, value in self.settings.items()
            if name not in _OF_PRUNING or name in known
        }

    @property
    def _of_contender(self) -> dict[str, Any]:
        """What it says of how this contender alone prunes."""
        own = self._own
        return {name: value for name, value in self.settings.items() if name not in own}

    def policies(self, namms: "NAMMs") -> Iterator[tuple[str, Policy]]:
        """The policy by its name in the results; without a NAMM of its own one for each of these.

        Raises:
            UserError: unknown policy, NAMM or setting.
        """
        settings = self._own
        if self.policy == "namm" and "namm" in settings:
            raise UserError(
                f"policy {self.text!r} has the setting namm; name a NAMM as in namm:recall"
            )
        if self.policy != "namm":
            yield self.text, get_policy(self.policy, **settings)
            return
        chosen = [self.namm] if self.namm else namms.names
        for name, namm in zip(_short(chosen), chosen):
            alone = len(chosen) == 1
            label = self.text if alone else self.text.replace("namm", f"namm:{name}", 1)
            yield label, get_policy("namm", namm=namms.load(namm), **settings)


class NAMMs:
    """The NAMMs of a command line, each loaded once, however it is spelled.

    Attributes:
        names: of the policy namm where it names none, each once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._loaded: dict[str | Path, NAMM] = {}
        first: dict[str | Path, str] = {}
        for name in names:
            first.setdefault(namm_place(name), name)
        self.names = list(first.values())

    def load(self, name: str) -> NAMM:
        """One of them, or another.

        Raises:
            UserError: there is none, or its files are damaged.
        """
        place = namm_place(name)
        if place not in self._loaded:
            self._loaded[place] = _single(name)
        return self._loaded[place]


def _single(name: str) -> NAMM:
    namm = NAMM.from_pretrained(name)
    if namm.population > 1:
        raise UserError(f"NAMM {name} is a population of {namm.population}; save one of them")
    return namm


#: A spelling, the name of one policy of it, and that policy.
_Named = tuple[Spelling, str, Policy]


def plan(
    options: ContenderOptions,
    shape: LayerShape | None = None,
    tokens: int = 0,
    lengths: Sequence[int | Course] = (),
) -> list[Contender]:
    """Every policy that is asked for, at every budget; `full` is left to the benchmark.

    Where both shares of a budget are asked for, a policy is there under each.

    Args:
        options: of the command line.
        shape: of a layer; for equal bytes.
        tokens: of the longest sequence; for equal bytes.
        lengths: tokens of all sequences, by default only of that one; for equal tokens.

    Raises:
        UserError: unknown policy or NAMM, settings a policy cannot work with, or nothing to equal.
    """
    everyone, equal, both = "all" in options.policy, options.equal_in, options.share == "both"
    options = replace(options, share="head") if both else options
    names = [*(POLICIES.built_in if everyone else ()), *options.policy]
    spelled = [Spelling.of(name) for name in dict.fromkeys(names) if name not in ("all", "full")]
    namms = NAMMs(options.namm)
    named = [(one, *pair) for one in spelled for pair in one.policies(namms)]
    for path in options.threshold:
        named = _cut(named, path, namms, options)
    _check_kinds(spelled, equal)
    equals = _Equals(options, shape, tokens, lengths or (tokens,)) if equal else None
    found: list[Contender] = []
    for place, budget in enumerate(options.budget):
        same = [
            (one, label, policy)
            for one, label, policy in named
            # Without a budget, `all` means those that have a threshold of their own.
            if budget is not None
            or policy.threshold is not None
            or not everyone
            or "budget" in one.settings
            or equal
            # Who has a budget of its own is there once.
            if place == 0 or "budget" not in one.settings or one.kind
        ]
        made = (
            equals.of(same, budget)
            if equals
            else [
                Contender(label, one.pruning(policy, budget, options))
                for one, label, policy in same
            ]
        )
        found += [each for one in made for each in (_under_both(one) if both else [one])]
    return each_once(found)


def _under_both(one: Contender) -> list[Contender]:
    """A contender under either share of its budget, unless it says one or has no budget."""
    pruning, said = one.pruning, Spelling.of(one.name).settings
    if pruning is None or pruning.budget is None or "share" in said:
        return [one]
    shared = replace(pruning, share="layer")
    layer = replace(one, name=f"{one.name}:share=layer", pruning=shared, pair=one.name)
    return [replace(one, pair=one.name), layer]


def _check_kinds(spelled: Sequence[Spelling], equal: str | None) -> None:
    for one in spelled:
        if one.kind and not equal:
            raise UserError(
                f"policy {one.text!r} leaves the number of its budget to what is equal; give "
                "--equal held, peak or bytes, or a number"
            )


def _cut(
    named: Sequence[_Named], path: Path, namms: NAMMs, options: ContenderOptions
) -> list[_Named]:
    """The same, with the threshold of a file in place of its policy's budgets.

    Raises:
        UserError: that policy is not among them, or prunes otherwise than it was calibrated.
    """
    found = read_threshold(path)
    policy, calibrated = calibrated_pruning(
        found.policy, found.update_interval, found.threshold, namms
    )
    found.check_namm(policy)
    cut: list[_Named] = []
    for one, label, rule in named:
        if rule == policy and "budget" not in one.settings:
            one.check_bare()
            one = one.cut_at(found.threshold)
            found.check_settings(label, one.pruning(policy, None, options), calibrated)
        cut.append((one, label, rule))
    if cut == [*named]:
        raise UserError(
            f"threshold {path} is of {found.policy}, which is no policy here without a budget of "
            "its own; add it to --policy"
        )
    return cut


def calibrated_pruning(
    text: str, update_interval: int, threshold: float, namms: NAMMs
) -> tuple[Policy, Pruning]:
    """One policy, and how it prunes by a threshold alone.

    Raises:
        UserError: it is unknown or several, or says itself what leaves.
    """
    one = Spelling.of(text)
    one.check_bare()
    policies = list(one.policies(namms))
    options = ContenderOptions(update_interval=update_interval)
    return policies[0][1], one.cut_at(threshold).pruning(policies[0][1], None, options)


def each_once(found: Sequence[Contender]) -> list[Contender]:
    """Contenders of different names that prune differently, each by its first name.

    Raises:
        UserError: two differ under one name, and could not be told apart.
    """
    kept: dict[tuple[str, Budget], Contender] = {}
    for one in found:
        alike = (each for each in kept.values() if _alike(each, one))
        key = next(alike, one).key
        first = kept.setdefault(key, one)
        if first.pruning != one.pruning:
            raise UserError(
                f"two policies would be called {one.name!r}; name one of them by its whole path"
            )
        if one.like and one._at_nominal not in (first._at_nominal, *first.others):
            kept[key] = replace(first, others=(*first.others, one._at_nominal))
    return list(kept.values())


def _alike(one: Contender, other: Contender) -> bool:
    """Whether both prune in one way; a budget of 1 is a token, one of 1.0 is everything."""
    shares = [each.pruning is not None and each.pruning.is_share for each in (one, other)]
    return one.pruning == other.pruning and shares[0] == shares[1]


@dataclass(frozen=True)
class _Equals:
    """Makes every rule without a number of its own hold as much as the first NAMM."""

    options: ContenderOptions
    shape: LayerShape | None
    tokens: int
    lengths: Sequence[int | Course]

    def of(self, same: Sequence[_Named], budget: Budget) -> list[Contender]:
        """Contenders of one budget.

        Raises:
            UserError: there is no NAMM, or nobody knows what it holds.
        """
        like = self._first(same, budget)
        return [
            Contender(label, self._equal(one, policy, like), like)
            if one.kind or not (_is_namm(policy) or "budget" in one.settings)
            else Contender(label, one.pruning(policy, budget, self.options))
            for one, label, policy in same
        ]

    def _first(self, same: Sequence[_Named], budget: Budget) -> Pruning:
        equal = f"equal {_EQUAL[self.options.equal_in or '']}"
        if not self.shape or not self.tokens:
            raise UserError(
                f"{equal}: this benchmark does not say how long its sequences are; leave it out"
            )
        first = next((each for each in same if _is_namm(each[2]) and not each[0].kind), None)
        if first is None:
            raise UserError(f"{equal} are those of the policy namm; add it to --policy")
        like = first[0].pruning(first[2], budget, self.options)
        if like.budget is None and self._measured is None:
            raise UserError(f"{equal} need a budget of the NAMM; give --budget a number")
        return like

    @property
    def _measured(self) -> MeasuredOptions | None:
        return self.options if isinstance(self.options, MeasuredOptions) else None

    def _equal(self, one: Spelling, policy: Policy, like: Pruning) -> Pruning:
        kind, equal = one.kind or ("fraction" if like.is_share else "size"), self.options.equal_in
        # A threshold of the whole model is the NAMM's alone.
        options = self.options
        options = replace(options, share="head") if options.share == "model" else options
        # Any number of this kind that protected tokens fit into.
        pruning = one.pruning(policy, 1.0 if kind == "fraction" else MOST_TOKENS, options)
        assert self.shape
        if equal == "bytes":
            return at_equal_bytes(pruning, like, self.shape, self.tokens)
        goal, lengths = None, self.lengths
        if like.budget is None and self._measured:
            goal, lengths = self._measured.goal, self._measured.lengths
        return at_equal_tokens(pruning, like, str(equal), lengths, goal, self.shape.layers)


def _is_namm(policy: Policy) -> bool:
    return isinstance(policy, NAMMPolicy)


def _short(namms: Sequence[str]) -> Sequence[str]:
    """Names of NAMMs without their folders, where that tells them apart."""
    short = [Path(each).name for each in namms]
    return short if len(set(short)) == len(short) else namms


def _settings(text: str, settings: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in filter(None, settings.split(",")):
        name, value = _setting(text, part)
        if name in found:
            raise UserError(f"policy {text!r} says {name} twice; say it once")
        found[name] = value
    return found


def _setting(text: str, part: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    if not equals or not name:
        raise UserError(
            f"policy {text!r} has the setting {part!r}; write name=value, as in recency:sinks=0"
        )
    return name.strip(), literal(value)
