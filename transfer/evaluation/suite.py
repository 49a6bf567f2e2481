"""`transfer eval --suite zero-shot`: one NAMM on every kind of model, beside all rules, one table.

Each section is an ordinary `transfer eval` of one model, written into its own subfolder, so that a
suite that is stopped goes on where it was, and every number in the table can be looked up. Nothing
heavy is imported before it starts, because the command line reads `SuiteEval` for its help.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transfer.errors import UserError, unknown_name
from transfer.evaluation.control import DEFAULT_BUDGET, DEFAULT_NAMM, ControlEval
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.results import Results
from transfer.evaluation.video_qa import VideoEval

#: Models that took no part in the evolution of a shipped NAMM, and tasks that they answer.
_LANGUAGE_MODELS = ("llama-recall-wide", "gpt2-recall")
_LANGUAGE_TASKS = ("recall", "overwritten", "decoys", "passkey")
_VIDEO_MODEL = "llava-next-video"
_ENVS = ("hopper", "halfcheetah", "walker2d")
_QUALITIES = ("medium", "medium-replay", "expert")
_RULES = ("fastgen", "h2o", "h2o_age", "l2_norm", "random", "recency", "snapkv", "tova")

Config = ControlEval | LanguageEval | VideoEval


@dataclass(frozen=True)
class Section:
    """One evaluation of the suite.

    Attributes:
        name: of its subfolder.
        modality: language, video or control.
        config: of the evaluation.
    """

    name: str
    modality: str
    config: Config


@dataclass(frozen=True)
class SuiteEval:
    """Lay a NAMM on every kind of model and compare it with every rule at equal bytes, zero-shot.

    Sections: two language models that no NAMM was evolved on, video question answering, and nine
    Decision Transformers. Each runs the full cache, the NAMMs, every rule with as many tokens as
    fit into the NAMM's bytes, and in control the stock window; all on the same documents, questions
    and episode seeds. The change against the model as it is without pruning (full cache; in
    control the stock window) is averaged over tasks.

    Args:
        suite: zero-shot.
        namm: shipped names, folders or hub ids; the first decides the bytes of the rules.
        section: only these, by name or the beginning of a name, such as `control/hopper`.
        quick: few documents, questions, episodes and tasks, to see it work in under five minutes.
        documents: of each language task.
        questions: about videos; there are 672.
        episodes: of each control task.
        num_envs: environments that run at once.
        threads: CPU threads of the models.
        out: folder of the results, a subfolder for each section. A suite that was stopped there is
            resumed.
    """

    suite: Literal["zero-shot"]
    namm: tuple[str, ...] = (DEFAULT_NAMM,)
    section: tuple[str, ...] = ()
    quick: bool = False
    documents: int = 200
    questions: int = 672
    episodes: int = 100
    num_envs: int = 50
    threads: int = 1
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("documents", "questions", "episodes", "num_envs", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')} is {getattr(self, name)}; use 1 or more")
        if not self.namm or len(set(self.namm)) < len(self.namm):
            given = " ".join(self.namm) or "none"
            raise UserError(f"namm is {given}; name one or more, each once")

    def sections(self) -> list[Section]:
        """What is to be run, in order.

        Raises:
            UserError: no section is named as asked.
        """
        everything = [*self._language(), self._video(), *self._control()]
        for wanted in self.section:
            if not any(one.name.startswith(wanted) for one in everything):
                raise unknown_name("section", wanted, [one.name for one in everything])
        asked = self.section or ("",)
        return [one for one in everything if one.name.startswith(tuple(asked))]

    def _language(self) -> list[Section]:
        documents = 20 if self.quick else self.documents
        common = LanguageEval(
            model="",
            task=_LANGUAGE_TASKS[:1] if self.quick else _LANGUAGE_TASKS,
            policy=("namm", *_RULES),
            namm=self.namm,
            equal_bytes=True,
            documents=documents,
            threads=self.threads,
        )
        return [
            self._section("language", model, replace(common, model=model))
            for model in _LANGUAGE_MODELS
        ]

    def _video(self) -> Section:
        config = VideoEval(
            model=_VIDEO_MODEL,
            policy=("namm", *_RULES),
            namm=self.namm,
            budget=(0.25,),
            equal_bytes=True,
            questions=14 if self.quick else self.questions,
            threads=self.threads,
        )
        return self._section("video", _VIDEO_MODEL, config)

    def _control(self) -> list[Section]:
        common = ControlEval(
            model="",
            policy=("namm", *_RULES),
            namm=self.namm,
            budget=DEFAULT_BUDGET,
            equal_bytes=True,
            episodes=4 if self.quick else self.episodes,
            num_envs=self.num_envs,
            threads=self.threads,
        )
        return [
            self._section(
                "control",
                f"{env}-{quality}",
                replace(common, model=f"decision-transformer-{env}-{quality}"),
            )
            for env in _ENVS
            for quality in (_QUALITIES[:1] if self.quick else _QUALITIES)
        ]

    def _section(self, modality: str, name: str, config: Config) -> Section:
        name = f"{modality}/{name}"
        out = None if self.out is None else self.out / name
        return Section(name, modality, replace(config, out=out))


def evaluate_suite(config: SuiteEval) -> Results:
    """Run every section that is not finished, and summarise them together.

    Ctrl-C ends the suite early: what had ended is summarised, and the results say `interrupted`.

    Raises:
        UserError: bad settings, or an output that cannot be written or holds another suite.
    """
    from transfer.evaluation.suite_run import run_suite

    return run_suite(config)
