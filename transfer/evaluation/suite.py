"""`transfer eval suite`: one NAMM on every kind of model, beside all rules, one table.

Each section is an ordinary `transfer eval` of one model, written into its own subfolder, so that a
suite that is stopped goes on where it was, and every number in the table can be looked up. Nothing
heavy is imported, because the command line reads `SuiteEval` for its help.
"""

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import ClassVar, Literal

from transfer.adapters.fetched import is_fetched
from transfer.adapters.kinds import Source
from transfer.arguments import check_fields
from transfer.errors import UserError, check_at_least, unknown_name
from transfer.evaluation.control import DEFAULT_BUDGET, ControlEval
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.options import (
    ContenderOptions,
    EvalConfig,
    RunOptions,
    name_once,
)
from transfer.evaluation.video import VideoEval
from transfer.namm.config import DEFAULT_NAMM

#: Models that took no part in the evolution of a shipped NAMM, and tasks that they answer.
_LANGUAGE_MODELS = ("llama-recall-wide", "gpt2-recall")
_LANGUAGE_TASKS = ("recall", "overwritten", "decoys", "passkey")
#: A pretrained model, left out where it was not fetched, and tasks that it answers in full.
_REAL_MODEL = "smollm2-135m"
_REAL_TASKS = ("passkey", "needle", "prose", "ruler/niah_single_1", "ruler/niah_single_2")
_REAL_LANGUAGE = f"real-language/{_REAL_MODEL}"
_VIDEO_MODEL = "llava-next-video"
_ENVS = ("hopper", "halfcheetah", "walker2d")
_QUALITIES = ("medium", "medium-replay", "expert")
#: Of control in which memory decides: environment and kind of time embedding.
MEMORY_TASKS = (
    "tmaze-none", "tmaze-learned", "tmaze-stretched",
    "gates-none", "gates-learned", "gates-stretched",
    "minigrid-memory-none", "repeat-previous-learned",
)  # fmt: skip
_MEMORY_BUDGET = 24
#: Modules that some of them need, of the extra `memory`.
_NEEDED = {"minigrid-memory-none": "minigrid", "repeat-previous-learned": "popgym"}
#: Instead of the names of sections.
EVERY_SECTION = "all"
_RULES = ("fastgen", "h2o", "h2o_age", "keydiff", "l2_norm", "random", "recency", "snapkv", "tova")

Config = ControlEval | LanguageEval | VideoEval


@dataclass(frozen=True)
class SuiteEval(EvalConfig):
    """Lay a NAMM on every kind of model and compare it with nine rules at equal memory, zero-shot.

    Sections: two language models that no NAMM was evolved on, a pretrained one where it is on this
    machine (`transfer get smollm2-135m`), video question answering, nine Decision Transformers of
    locomotion, and eight of tasks in which memory decides (six without the extra `memory`). Each
    runs the full cache, the NAMMs, the rules with as many tokens as --equal says, and in control
    the stock window; all on the same documents, questions and episode seeds. The change against the
    model as it is without pruning (full cache; in locomotion the stock window) is averaged over
    tasks.

    Args:
        suite: the only one there is, zero-shot.
        policy: who is compared, as elsewhere; a NAMM's settings follow a colon: namm:state=byte.
        namm: NAMMs by shipped names, folders or hub ids; the first decides what the rules hold.
        equal: what the rules hold as much of as the first NAMM; bytes: at most; held: tokens, on
            average over those seen; peak: tokens, at most.
        section: only these, by name or the beginning of a name, such as `control/hopper`; all:
            every one.
        quick: few documents, questions, episodes and tasks, to see it work in under five minutes.
        documents: documents of each language task; of a pretrained model a tenth of them.
        questions: questions about videos; there are 768.
        episodes: episodes of each control task.
        num_envs: environments that run at once.
        place: where the models compute.
        run: how it is run; --out is the folder of the results, a subfolder for each section.
    """

    kind: ClassVar[str] = "suite"

    suite: Literal["zero-shot"] = "zero-shot"
    policy: tuple[str, ...] = ("namm", *_RULES)
    namm: tuple[str, ...] = (DEFAULT_NAMM,)
    equal: Literal["held", "peak", "bytes"] = "bytes"
    section: tuple[str, ...] = (EVERY_SECTION,)
    quick: bool = False
    documents: int = 200
    questions: int = 768
    episodes: int = 100
    num_envs: int = 50
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1), kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self)
        check_at_least(1, self, "documents", "questions", "episodes")
        check_at_least(1, self, "num_envs", most=10_000)
        for name in ("policy", "namm", "section"):
            name_once(self, name)
        for name in ("documents", "questions", "episodes") if self.quick else ():
            if getattr(self, name) != getattr(SuiteEval, name):
                raise UserError(f"--quick says itself how many {name} there are; leave one out")

    def sections(self) -> dict[str, Config]:
        """What is to be run, in order, by the name of its subfolder.

        Raises:
            UserError: no section is named as asked.
        """
        everything = {
            **self._language(),
            **self._real_language(),
            **self._video(),
            **self._control(),
            **self._memory(),
        }
        if EVERY_SECTION in self.section:
            return everything
        for wanted in self.section:
            if not any(name.startswith(wanted) for name in everything if wanted):
                if _REAL_LANGUAGE.startswith(wanted):
                    # Says how to fetch it.
                    Source(_REAL_MODEL)
                if wanted and any(f"memory/{task}".startswith(wanted) for task in _NEEDED):
                    raise UserError(
                        f"section {wanted} needs packages that are not here; run "
                        "`pip install namm-transfer[memory]`"
                    )
                raise unknown_name("section", wanted, everything)
        return {name: one for name, one in everything.items() if name.startswith(self.section)}

    def _language(self) -> dict[str, Config]:
        return {
            f"language/{model}": LanguageEval(
                model=model,
                task=_LANGUAGE_TASKS[:1] if self.quick else _LANGUAGE_TASKS,
                documents=20 if self.quick else self.documents,
                contenders=self._contenders(24, 32),
                place=self.place,
                run=self._run(f"language/{model}"),
            )
            for model in _LANGUAGE_MODELS
        }

    def _real_language(self) -> dict[str, Config]:
        if not is_fetched(_REAL_MODEL):
            return {}
        config = LanguageEval(
            model=_REAL_MODEL,
            task=_REAL_TASKS[:2] if self.quick else _REAL_TASKS,
            length=(512,) if self.quick else (1024,),
            documents=2 if self.quick else max(1, self.documents // 10),
            contenders=self._contenders(0.25, 64),
            place=self.place,
            run=self._run(_REAL_LANGUAGE),
        )
        return {_REAL_LANGUAGE: config}

    def _video(self) -> dict[str, Config]:
        name = f"video/{_VIDEO_MODEL}"
        config = VideoEval(
            model=_VIDEO_MODEL,
            questions=16 if self.quick else self.questions,
            contenders=self._contenders(0.25, 64),
            place=self.place,
            run=self._run(name),
        )
        return {name: config}

    def _control(self) -> dict[str, Config]:
        tasks = [
            f"{env}-{quality}"
            for env in _ENVS
            for quality in (_QUALITIES[:1] if self.quick else _QUALITIES)
        ]
        return {
            f"control/{task}": ControlEval(
                model=f"decision-transformer-{task}",
                episodes=4 if self.quick else self.episodes,
                num_envs=self.num_envs,
                contenders=self._contenders(DEFAULT_BUDGET, 16),
                place=self.place,
                run=self._run(f"control/{task}"),
            )
            for task in tasks
        }

    def _memory(self) -> dict[str, Config]:
        tasks = MEMORY_TASKS[::3] if self.quick else MEMORY_TASKS
        return {
            f"memory/{task}": ControlEval(
                model=f"decision-transformer-{task}",
                memory=("full", "window"),
                episodes=10 if self.quick else self.episodes,
                num_envs=self.num_envs,
                contenders=self._contenders(_MEMORY_BUDGET, 16),
                place=self.place,
                run=self._run(f"memory/{task}"),
            )
            for task in tasks
            if task not in _NEEDED or find_spec(_NEEDED[task])
        }

    def _contenders(self, budget: int | float, update_interval: int) -> ContenderOptions:
        return ContenderOptions(
            policy=self.policy,
            namm=self.namm,
            budget=(budget,),
            # (Bytes as finished sections have it in their settings.)
            equal=None if self.equal == "bytes" else self.equal,
            equal_bytes=self.equal == "bytes",
            update_interval=update_interval,
        )

    def _run(self, name: str) -> RunOptions:
        return replace(self.run, out=None if self.run.out is None else self.run.out / name)
