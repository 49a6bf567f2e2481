"""What a cache layer asks of an eviction rule, and the settings it prunes under.

A policy never sees a model. It reads an `AttentionWindow` and its own state for each token and
returns one score a token; what leaves is decided in `transfer.cache.eviction`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from transfer.arguments import check_fields, shown
from transfer.cache.queries import STRIDE, TILE
from transfer.cache.window import AttentionWindow
from transfer.errors import MOST_TOKENS, UserError


class Depth(NamedTuple):
    """Where a layer is among those of its model that are pruned.

    Attributes:
        place: from 0 on, the first of them reads the embeddings or what is nearest to them.
        layers: how many there are.
    """

    place: int = 0
    layers: int = 1


class Policy(ABC):
    """Scores the tokens of one layer's cache; higher stays longer."""

    name: ClassVar[str]
    #: Whether the policy asks for attention values.
    reads_attention: ClassVar[bool] = False
    #: Whether tokens ever leave under this policy.
    evicts: ClassVar[bool] = True
    #: Floats kept with every cached token.
    state_size: ClassVar[int] = 0
    #: Whether they may be float16 where the model is of half precision.
    half_state: ClassVar[bool] = False
    #: Whether they are bytes (`transfer.cache.codes`) but for models of double precision.
    byte_state: ClassVar[bool] = False
    #: `accumulate` gets queries in multiples of so many, and update intervals have to fit.
    multiple_of: ClassVar[int] = 1
    #: Whether a head's scores depend on the other heads of its layer.
    compares_heads: ClassVar[bool] = False
    #: Without a budget, tokens scored below it leave; None: there is none of its own.
    threshold: ClassVar[float | None] = None
    #: Whether a score means the same at every update, so that a threshold can replace a budget.
    takes_threshold: ClassVar[bool] = True

    def identity(self) -> Mapping[str, Any]:
        """What tells this policy from others of its class, as JSON can say it: its settings.

        A policy with settings that are no numbers and texts says here what stands for them.
        """
        return dict(vars(self))

    def state_dtype(self, model: torch.dtype) -> torch.dtype:
        """How the state is stored beside keys of a model's precision."""
        if self.byte_state and model.itemsize < 8:
            return torch.uint8
        small = self.half_state and model.itemsize == 2
        return torch.float16 if small else torch.promote_types(model, torch.float32)

    def looks_back(self, update_interval: int) -> int:
        """How many queries before those it was not shown yet the policy asks about.

        For a policy that does not `accumulate`: all of its window.
        """
        return update_interval if self.reads_attention else 0

    def layer_budget(self, even: int, seen: int, least: int, depth: "Depth") -> int:
        """How many of a budget's tokens each head of one layer keeps; over all layers `even`.

        Args:
            even: what each would keep if all kept alike, up to `seen`, at least `least`.
            seen: tokens that came.
            least: those of a layer that stay whatever the policy says.
            depth: of the layer.
        """
        return even

    def accumulate(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> Float[Tensor, "batch kv_heads tokens size"]:
        """Take some queries' attention into the state; called with each query once, in order.

        How many at a time depends on how the queries come, always a multiple of `multiple_of`.

        Args:
            window: attention of these queries, and what the layer stores. Tokens are ordered old
                to new and padded on the left to the longest head.
            state: of the tokens, 0 for new ones; may be changed in place.
        """
        return state

    @abstractmethod
    def score(
        self, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
    ) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
        """Score every cached token at an update, after all queries before it were observed.

        Args:
            window: as in `accumulate`, with the newest queries as far as the policy looks back.
            state: as in `accumulate`.

        Returns:
            The scores (values at padding do not matter) and the state to keep.
        """


#: Settings of `Pruning` that protect tokens; a policy that has one of its own takes it itself.
PROTECTING = ("keep_recent", "sinks")

#: Those that say who shares a budget, and who may.
SHARING = ("share", "share_floor", "threshold")
SHARES = ("head", "layer", "model")

#: Update intervals that are fitted to a prompt; the longest is the paper's.
SHORTEST_INTERVAL, LONGEST_INTERVAL = 32, 512


def scored(
    policy: Policy, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
) -> tuple[Float[Tensor, "batch kv_heads tokens"], Float[Tensor, "batch kv_heads tokens size"]]:
    """`Policy.score`, and that it is what a layer can use; whole numbers will do.

    Raises:
        UserError: the policy failed, or what it returns is of another form, or NaN.
    """
    found: Any = _asked(policy, "score", window, state)
    if not isinstance(found, tuple) or len(found) != 2:
        raise UserError(f"policy {policy.name} returns no pair of scores and state from score")
    scores, after = found
    _check_tensor(policy, "scores", scores, state.shape[:3], state)
    _check_tensor(policy, "state", after, state.shape, state)
    scores = scores if scores.is_floating_point() else scores.double()
    if (scores.isnan() & window.valid).any():
        raise UserError(f"policy {policy.name} scores a token NaN; give every token a number")
    return scores, after


def accumulated(
    policy: Policy, window: AttentionWindow, state: Float[Tensor, "batch kv_heads tokens size"]
) -> Float[Tensor, "batch kv_heads tokens size"]:
    """`Policy.accumulate`, checked like `scored`."""
    after = _asked(policy, "accumulate", window, state)
    _check_tensor(policy, "state", after, state.shape, state)
    return after


def _asked(policy: Policy, what: str, window: AttentionWindow, state: Tensor) -> Any:
    try:
        return getattr(policy, what)(window, state)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    # Somebody else's policy may raise anything, and a script may leave.
    except (Exception, SystemExit, GeneratorExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"policy {policy.name} cannot {what} ({reason})") from error


def _check_tensor(policy: Policy, what: str, found: Any, shape: torch.Size, like: Tensor) -> None:
    if not isinstance(found, Tensor) or found.is_complex() or found.device != like.device:
        kind = f"{found.dtype} on {found.device}" if isinstance(found, Tensor) else shown(found)
        raise UserError(
            f"policy {policy.name} returns {what} {kind}; return real numbers on {like.device}"
        )
    if found.shape != shape:
        raise UserError(
            f"policy {policy.name} returns {what} of shape {list(found.shape)}; return "
            f"{list(shape)}, one for each token"
        )


@dataclass(frozen=True)
class Pruning:
    """How a cache is pruned.

    Args:
        policy: who scores the tokens.
        update_interval: tokens between two updates (the paper's n_up). None: each cache takes one
            that fits the first call it sees, see `fitted`.
        budget: tokens each head keeps (int), or a fraction of the tokens seen (float below 1);
            None: what a threshold says.
        eviction: `exact`: a token that scores below the threshold leaves its head, heads may
            differ in length. `reference`: the original implementation's rule, every head keeps as
            many tokens as the head of its layer that keeps most.
        expose_attention: remember all queries of a window, for who wants to look at them.
        trace: remember which positions were kept at each update.
        keep_recent: newest tokens of each head that never leave, whatever the policy says. They
            and the sinks count within the budget, of which a fraction is never less than them.
        sinks: first tokens of a sequence that never leave.
        share: who shares a budget. `head`: nobody, each head keeps as many tokens as it says.
            `layer`: the heads of a layer together keep as many as they would each, those with the
            best scores of all (AdaKV, arXiv 2407.11550); sequences never share. `model`: the whole
            model has one threshold, and no budget.
        share_floor: of a shared budget, the part of the even share that each head keeps for itself.
        threshold: tokens that score below it leave, where there is no budget; None: the policy's
            own.

    Raises:
        UserError: a setting is of the wrong type or out of range, the policy needs a budget and has
            none, more tokens are protected than the budget has, or the policy has no name.
    """

    policy: Policy
    update_interval: int | None = LONGEST_INTERVAL
    budget: int | float | None = None
    eviction: str = "exact"
    expose_attention: bool = False
    trace: bool = False
    keep_recent: int = 0
    sinks: int = 0
    share: str = "head"
    share_floor: int | float = 0.25
    threshold: int | float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_policy()
        if self.eviction not in ("exact", "reference"):
            raise UserError(f"unknown eviction {self.eviction!r}; use exact or reference")
        self._check_interval()
        self._check_share()
        self._check_threshold()
        self._check_budget()
        self._check_protection()

    def _check_policy(self) -> None:
        """What a policy from outside says of itself is of the kind that is read."""
        policy, whole = self.policy, "a whole number"
        if not isinstance(getattr(policy, "name", None), str) or not policy.name:
            raise UserError(f"{type(policy).__name__} has no name; give the class one, a text")
        for name, fits, kind in (
            ("state_size", _is_whole(policy.state_size, 0), f"{whole} from 0 on"),
            ("multiple_of", _is_whole(policy.multiple_of, 1), f"{whole} from 1 on"),
            ("evicts", isinstance(policy.evicts, bool), "True or False"),
            ("reads_attention", isinstance(policy.reads_attention, bool), "True or False"),
            ("compares_heads", isinstance(policy.compares_heads, bool), "True or False"),
            ("threshold", _is_finite(policy.threshold), "a number or None"),
            ("takes_threshold", isinstance(policy.takes_threshold, bool), "True or False"),
        ):
            if not fits:
                raise UserError(
                    f"{name} of policy {policy.name} is {shown(getattr(policy, name))}; use {kind}"
                )
        try:
            back = policy.looks_back(self.update_interval or LONGEST_INTERVAL)
        # Somebody else's policy may raise anything.
        except Exception as error:
            raise UserError(
                f"policy {policy.name} cannot say how far it looks back "
                f"({type(error).__name__}: {error})"
            ) from error
        if not _is_whole(back, 0):
            raise UserError(
                f"policy {policy.name} looks back {shown(back)} queries; use {whole} from 0 on"
            )

    def _check_interval(self) -> None:
        interval, multiple = self.update_interval, self.policy.multiple_of
        if interval is not None and interval > MOST_TOKENS:
            raise UserError(
                f"update interval {interval} is never reached; use at most {MOST_TOKENS:,} tokens"
            )
        if interval is not None and (interval < 1 or interval % multiple):
            raise UserError(
                f"update interval {interval} does not fit policy {self.policy.name}; use a positive"
                + (f" multiple of {multiple} tokens" if multiple > 1 else " number of tokens")
            )

    def _check_share(self) -> None:
        if self.share not in SHARES:
            raise UserError(f"unknown share {self.share!r}; use {', '.join(SHARES)}")
        if not 0 <= self.share_floor <= 1:
            raise UserError(
                f"share_floor is {self.share_floor}; use a part of the even share, from 0 to 1"
            )
        if self.share == "layer" and self.budget is None:
            raise UserError(
                "share layer is of a budget, and there is none; give one, or use share head"
            )
        if self.share == "model" and self.budget is not None:
            raise UserError(
                f"share model goes by one threshold, and budget {self.budget} was given; give none "
                "(None), or share head or layer"
            )

    def _check_threshold(self) -> None:
        threshold, policy = self.threshold, self.policy
        if threshold is None:
            return
        if self.budget is not None:
            raise UserError(
                f"threshold {threshold} and budget {self.budget} say both what leaves; give one"
            )
        if not math.isfinite(threshold):
            raise UserError(f"threshold {threshold} is no score; use a finite number")
        if not policy.evicts:
            raise UserError(f"policy {policy.name} keeps everything; leave the threshold out")
        if not policy.takes_threshold:
            raise UserError(
                f"the scores of policy {policy.name} are of one budget or moment, so that no "
                "threshold fits them; give it a budget"
            )

    def _check_budget(self) -> None:
        budget, policy = self.budget, self.policy
        if budget is None:
            if self.cutoff is None:
                raise UserError(
                    f"policy {policy.name} has no threshold of its own; give it a budget "
                    "(tokens per head, or a fraction of the tokens seen)"
                )
            return
        if not policy.evicts:
            raise UserError(f"policy {policy.name} keeps everything; leave the budget out")
        if not math.isfinite(budget) or budget <= 0:
            raise UserError(f"budget {budget} keeps nothing; use a positive number")
        if budget > MOST_TOKENS:
            raise UserError(f"budget {budget} is too large; use at most {MOST_TOKENS:,} tokens")
        if budget > 1 and budget != int(budget):
            raise UserError(
                f"budget {budget} is neither a fraction nor whole tokens; "
                "use a number up to 1 or a whole number"
            )

    def _check_protection(self) -> None:
        for name in PROTECTING:
            count = getattr(self, name)
            if not 0 <= count <= MOST_TOKENS:
                raise UserError(f"{name} is {count}; use 0 to {MOST_TOKENS:,} tokens")
            if count and not self.policy.evicts:
                raise UserError(f"policy {self.policy.name} keeps everything; leave {name} out")
        if self.budget is not None and not self.is_share and self.protected > self.budget:
            raise UserError(
                f"keep_recent {self.keep_recent} and sinks {self.sinks} protect {self.protected} "
                f"tokens, the newest among them, and the budget is {self.budget}; raise it or "
                "protect fewer"
            )

    @property
    def protected(self) -> int:
        """Tokens of a long sequence that stay whatever the policy says; the newest always does."""
        return self.sinks + max(self.keep_recent, 1)

    @property
    def is_share(self) -> bool:
        """Whether the budget is a fraction of the tokens seen."""
        return isinstance(self.budget, float) and self.budget <= 1

    @property
    def cutoff(self) -> int | float | None:
        """Tokens that score below it leave; None with a budget, or without either."""
        if self.budget is not None:
            return None
        return self.policy.threshold if self.threshold is None else self.threshold

    @property
    def shared_by(self) -> str:
        """Who shares; without a budget the whole model, whose threshold is one."""
        return "model" if self.budget is None else self.share

    @property
    def floor(self) -> int | float | None:
        """The part of its budget that a head does not share; None: all of it."""
        return self.share_floor if self.share == "layer" else None

    @property
    def interval(self) -> int:
        """The update interval, once it is known."""
        assert self.update_interval is not None, "fitted at a cache's first call"
        return self.update_interval

    def fitted(self, tokens: int) -> "Pruning":
        """The same with an update interval, for a cache whose first call has so many tokens.

        It is the largest power of two up to a quarter of them, at least 32 and at most 512 (the
        paper's), rounded up to what the policy can follow; so a prompt of 128 tokens and more is
        pruned four times to seven before its end, or every 512 tokens.
        """
        if self.update_interval is not None:
            return self
        quarter = 1 << (max(tokens // 4, 1).bit_length() - 1)
        interval = min(max(quarter, SHORTEST_INTERVAL), LONGEST_INTERVAL)
        return replace(self, update_interval=_up_to_multiple(interval, self.policy.multiple_of))

    @property
    def reads_attention(self) -> bool:
        """Whether the layer keeps queries at all."""
        return self.policy.reads_attention or self.expose_attention

    @property
    def compares_heads(self) -> bool:
        """Whether what a head keeps depends on the other heads of its layer."""
        reference = self.eviction == "reference" and self.budget is None
        return self.policy.compares_heads or reference or self.share == "layer"

    @property
    def carried(self) -> int:
        """How many queries the layer keeps after the policy saw them."""
        return max(
            self.policy.looks_back(self.interval),
            self.interval if self.expose_attention else 0,
        )

    @property
    def piece(self) -> int:
        """Between updates the policy is shown queries in multiples of so many."""
        return _up_to_multiple(TILE, self.policy.multiple_of)

    @property
    def stride(self) -> int:
        """Queries after which the policy looks at them, at an update at the latest."""
        return min(self.interval, _up_to_multiple(STRIDE, self.piece))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pruning":
        """Itself: copies of a cache are pruned by the same policy, with the same weights."""
        return self

    def tokens(self, seen: int, depth: Depth | None = None) -> int | None:
        """The budget in tokens for a sequence of `seen` tokens; None without a budget.

        Args:
            seen: tokens that came.
            depth: of the layer that asks; None: what layers keep on average.

        Raises:
            UserError: the policy shares the budget over the layers by something else than numbers.
        """
        if self.budget is None:
            return None
        share = math.ceil(round(self.budget * seen, 9)) if self.is_share else int(self.budget)
        even = max(self.protected, share)
        if depth is None or depth.layers == 1 or even >= seen:
            return even
        own = self.policy.layer_budget(even, seen, self.protected, depth)
        if not _is_whole(own, 1):
            raise UserError(
                f"layer_budget of policy {self.policy.name} is {shown(own)}; use a whole number "
                "from 1 on"
            )
        return own


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and math.isfinite(value))


def _up_to_multiple(number: int, divisor: int) -> int:
    """The least multiple of `divisor` that is not below `number`."""
    return math.ceil(number / divisor) * divisor
