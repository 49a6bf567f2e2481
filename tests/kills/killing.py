"""Runs a command whole, kills it at random moments, lets it go on, and compares what it leaves."""

import csv
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

# Behind a child when it is forked, so that its time is the command's own.
import transfer.evaluation.control_benchmark
import transfer.evaluation.language_benchmark
import transfer.evaluation.runner
import transfer.evaluation.video_benchmark
import transfer.evolution.control
import transfer.pretrain.decision_transformer.train
import transfer.pretrain.recall.train
import transfer.pretrain.video_llava.train  # noqa: F401
from transfer import cli

from .commands import DATA, OUT, Command, write_data

#: What no two runs share: times, and digests that are of them too.
_UNLIKE = re.compile(r"(.*_)?seconds|digest")
_TIMES = re.compile(r"\d (s|seconds|minutes)\b")


def begin(command: Command, folder: Path) -> int:
    """Start a command in a folder; the number of its process, which has all imports behind it."""
    child = os.fork()
    if child:
        return child
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
    code = 99
    try:
        command.setup()
        code = cli.main(command.words.split())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(child: int) -> int:
    """Wait for it; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def moments(command: Command, folder: Path) -> float:
    """Run it whole; the seconds from its first sign of work to its end.

    Raises:
        RuntimeError: it fails.
    """
    child = begin(command, folder)
    _wait_for_work(child, folder)
    began = time.monotonic()
    if code := finish(child):
        said = (folder / "said.txt").read_text()
        raise RuntimeError(f"{command.name} ends with {code}: {said}")
    return time.monotonic() - began


def _wait_for_work(child: int, folder: Path) -> None:
    while not (folder / OUT).exists() and not os.waitid(
        os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.005)


def kill_and_resume(
    command: Command, folder: Path, after: float, how: signal.Signals
) -> tuple[bool, int]:
    """Kill it so many seconds after its first sign of work, and run it again.

    Returns:
        Whether it was killed before its end, and the exit code of the second run.
    """
    child = begin(command, folder)
    _wait_for_work(child, folder)
    time.sleep(after)
    os.kill(child, how)
    killed = finish(child) in (-how, cli.INTERRUPTED)
    return killed, finish(begin(command, folder))


def contents(command: Command, out: Path) -> dict[str, Any]:
    """What a run left, by the files' names, without what no two runs share."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and not any(part in name for part in command.differing):
            found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".jsonl":
        return [_alike(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        return _alike(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [_alike(line) for line in csv.DictReader(file)]
    if path.suffix == ".md":
        return [line for line in path.read_text().splitlines() if not _TIMES.search(line)]
    return path.read_bytes()


def _alike(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _alike(each) for name, each in value.items() if not _UNLIKE.fullmatch(name)}
    return [_alike(each) for each in value] if isinstance(value, list) else value


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of the files that only one has, or that are unlike."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def try_command(command: Command, kills: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill it so often, a third of the times by SIGTERM; how often what came of it."""
    counts, whole = Counter[str](), folder / "whole"
    whole.mkdir(parents=True)
    write_data(folder / DATA)
    shutil.copy2(folder / DATA, whole)
    seconds = moments(command, whole)
    expected = contents(command, whole / OUT)
    for number in range(kills):
        own = folder / str(number)
        own.mkdir()
        shutil.copy2(folder / DATA, own)
        how = signal.SIGTERM if number % 3 == 2 else signal.SIGKILL
        after = rng.uniform(0, seconds)
        killed, code = kill_and_resume(command, own, after, how)
        # A model that was finished when it was killed is not trained again.
        ended = code == 0 or "holds a finished model" in (own / "said.txt").read_text()
        unlike = differences(expected, contents(command, own / OUT))
        counts += Counter(kills=killed, resumed=ended, compared=len(expected), equal=not unlike)
        if unlike or not ended:
            print(f"{command.name}, {how.name} after {after:.2f} s, in {own}: {code}, {unlike}")
        else:
            shutil.rmtree(own)
    counts["files"] = len(expected)
    return counts
