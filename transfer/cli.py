"""The command `transfer`: options in, one function of the library called, exit code out.

Configurations are the library's own dataclasses and their docstrings are the help. Modules are
imported by the command that needs them, so that help does not wait for torch.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import transfer
from transfer.errors import SimulationError, UserError
from transfer.eval_kind import eval_kind
from transfer.evaluation.control import ControlEval
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.results import Results, read_results
from transfer.evaluation.suite import SuiteEval
from transfer.evaluation.video_inspect import InspectConfig
from transfer.evaluation.video_qa import VideoEval
from transfer.files import replacing

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_DESCRIPTION = (
    "Prune the KV cache of any transformer with one evolved network. "
    "`transfer COMMAND --help` explains a command, `transfer --version` says the version."
)


@dataclass(frozen=True)
class Eval(ControlEval):
    """Roll out a Decision Transformer under several cache policies and report D4RL scores.

    Other models have other options: `transfer eval --model llama-recall --help` for language,
    `transfer eval --model llava-next-video --help` for video. `transfer eval --suite zero-shot`
    runs all of them.

    Args:
        json: print results.json to standard output, and nothing else.
    """

    json: bool = False


@dataclass(frozen=True)
class EvalLanguage(LanguageEval):
    """Ask a language model about long documents under several cache policies.

    Decision Transformers have other options: `transfer eval --model decision-transformer --help`.

    Args:
        json: print results.json to standard output, and nothing else.
    """

    json: bool = False


@dataclass(frozen=True)
class EvalVideo(VideoEval):
    """Ask a video model questions about videos under several cache policies.

    Decision Transformers have other options: `transfer eval --model decision-transformer --help`.

    Args:
        json: print results.json to standard output, and nothing else.
    """

    json: bool = False


@dataclass(frozen=True)
class EvalSuite(SuiteEval):
    """Lay a NAMM on every kind of model and compare it with every rule at equal bytes, zero-shot.

    Args:
        json: print results.json to standard output, and nothing else.
    """

    json: bool = False


AnyEval = Eval | EvalLanguage | EvalVideo | EvalSuite

#: Whose options `eval` takes.
_EVALS: dict[str, type] = {
    "control": Eval,
    "language": EvalLanguage,
    "video": EvalVideo,
    "suite": EvalSuite,
}


@dataclass(frozen=True)
class Import:
    """Convert a checkpoint of the original NAMM repository (ckpt.pt); nothing in it is executed.

    Args:
        checkpoint: the file.
        out: folder of the NAMM, as --namm takes it.
    """

    checkpoint: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Doctor:
    """Say what this installation can do, and what to do about the rest.

    Args:
        model: also check that pruning this model (a shipped name, folder or hub id) is exact.
    """

    model: str | None = None


@dataclass(frozen=True)
class Report:
    """Print the tables of a finished evaluation again, or draw the curve of an evolution.

    Args:
        folder: what `transfer eval --out` or `transfer evolve --out` wrote.
    """

    folder: tyro.conf.Positional[Path]


class _Pretrain:
    """Train a small model, such as those that are shipped."""


class _Evolve:
    """Evolve a NAMM on language and control, and keep the one that does best on held-out data."""


class _Collect:
    """Train a behaviour policy and record its episodes in D4RL's file format."""


class _Plan:
    """Say what a model's cache will weigh, full and pruned, without loading the model."""


#: Commands whose options need heavy modules: what stands for them in the help of the others, the
#: module, its configuration, and what runs it.
_LAZY: dict[str, tuple[type, str, str, str]] = {
    "evolve": (_Evolve, "transfer.evolution.evolve", "EvolveConfig", "evolve"),
    "collect": (_Collect, "transfer.envs.collect", "CollectConfig", "collect"),
    "plan": (_Plan, "transfer.plan", "Plan", "print_plan"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `transfer`; by default those of this process.

    Returns:
        0, or 1: a check or the simulator failed, 2: bad input, 130: Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"transfer {transfer.__version__}")
        return 0
    try:
        return _run(words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except SimulationError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(words: list[str]) -> int:
    if words[:1] == ["pretrain"]:
        return _pretrain(words[1:])
    commands = {
        "eval": _EVALS[eval_kind(words) if words[:1] == ["eval"] else "control"],
        "pretrain": _Pretrain,
        **{name: stand_in for name, (stand_in, *_) in _LAZY.items()},
        "inspect": InspectConfig,
        "import": Import,
        "report": Report,
        "doctor": Doctor,
    }
    if words and words[0] in _LAZY:
        _, path, kind, run = _LAZY[words[0]]
        module = import_module(path)
        config = _parse("transfer", words, {**commands, words[0]: getattr(module, kind)})
        getattr(module, run)(config)
        return 0
    config = _parse("transfer", words, commands)
    runners = {
        Eval: _eval,
        EvalLanguage: _eval,
        EvalVideo: _eval,
        EvalSuite: _eval,
        InspectConfig: _inspect,
        Import: _import,
        Report: _report,
        Doctor: _doctor,
    }
    return runners[type(config)](config)


def _pretrain(words: Sequence[str]) -> int:
    from transfer.pretrain import decision_transformer, recall, video_llava

    kinds: dict[str, type] = {
        "decision-transformer": decision_transformer.PretrainConfig,
        "recall": recall.RecallPretrainConfig,
        "video-llava": video_llava.VideoPretrainConfig,
    }
    config = _parse("transfer pretrain", words, kinds)
    if isinstance(config, recall.RecallPretrainConfig):
        recall.pretrain_recall(config)
    elif isinstance(config, video_llava.VideoPretrainConfig):
        video_llava.pretrain_video(config)
    else:
        decision_transformer.pretrain(config)
    return 0


def _parse(program: str, words: Sequence[str], commands: Mapping[str, type]) -> Any:
    """The configuration that the words spell, of one of the types in `commands`.

    tyro would frame the sentences of `UserError` in its own; so the checks run after it is done.
    """
    unchecked = {name: _without_checks(kind) for name, kind in commands.items()}
    parsed = tyro.extras.subcommand_cli_from_dict(
        unchecked,
        prog=program,
        args=words,
        description=_DESCRIPTION,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    [kind] = [commands[name] for name, other in unchecked.items() if type(parsed) is other]
    return kind(**{field.name: getattr(parsed, field.name) for field in fields(kind)})


def _without_checks(kind: type) -> type:
    bare = {"__post_init__": lambda self: None, "__doc__": kind.__doc__}
    return dataclass(frozen=True)(type(kind.__name__, (kind,), bare))


def _eval(config: AnyEval) -> int:
    results = _evaluate(config)
    if config.json:
        print(json.dumps(results.as_json(), indent=1))
    else:
        _print_tables(results)
    if not results.interrupted:
        # Everything failed, as it can where each question has its own video.
        return 0 if results.summary else FAILED
    done = "what was done is" if isinstance(config, EvalSuite) else f"{len(results.rows)} rows are"
    where = "summarised; --out would keep it"
    if config.out:
        where = f"kept in {config.out}; the same command goes on from there"
    print(f"interrupted: {done} {where}", file=sys.stderr)
    return INTERRUPTED


def _evaluate(config: AnyEval) -> Results:
    from transfer.evaluation.control import evaluate_control
    from transfer.evaluation.language import evaluate_language
    from transfer.evaluation.suite import evaluate_suite
    from transfer.evaluation.video_qa import evaluate_video

    if isinstance(config, Eval):
        return evaluate_control(config)
    if isinstance(config, EvalVideo):
        return evaluate_video(config)
    if isinstance(config, EvalSuite):
        return evaluate_suite(config)
    return evaluate_language(config)


def _print_tables(results: Results) -> None:
    from transfer.evaluation import control_table, language_summary, suite_table, video_table
    from transfer.evaluation.tables import WIDTH

    first = next(iter([*results.summary, *results.rows]), None)
    if first is None:
        print("no episode, document or question had ended", file=sys.stderr)
        return
    tables = language_summary.tables
    if "modality" in first:
        tables = suite_table.tables
    elif "target_return" in first:
        tables = control_table.tables
    elif {"group_by", "question"} & set(first):
        tables = video_table.tables
    console = Console()
    # Standard output that is no terminal counts as 80 columns, which would cut numbers off.
    Console(width=console.width if console.is_terminal else WIDTH).print(tables(results))


def _inspect(config: InspectConfig) -> int:
    from transfer.evaluation.video_inspect import inspect_video

    print(inspect_video(config))
    return 0


def _import(config: Import) -> int:
    from transfer.namm.original import import_original

    namm = import_original(config.checkpoint)
    namm.save_pretrained(config.out)
    print(f"{config.out}: {namm.config}, {namm.vector.shape[-1]} parameters")
    return 0


def _report(config: Report) -> int:
    if not any(config.folder.glob("seed-*/ledger.jsonl")):
        _print_tables(read_results(config.folder))
        return 0
    from transfer.evolution.curve import draw_curve

    picture = config.folder / "curve.svg"
    with replacing(picture) as partial:
        draw_curve(config.folder).savefig(partial, format="svg")
    print(picture)
    return 0


def _doctor(config: Doctor) -> int:
    from transfer.doctor import examine

    code = 0
    for finding in examine(config.model):
        print(finding, flush=True)
        if finding.needed and not finding.ok:
            code = FAILED
    return code
