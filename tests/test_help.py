"""What a newcomer sees before anything runs: help, completion, colours, characters, interrupts."""

import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import is_dataclass
from importlib import import_module
from itertools import chain

import pytest
from rich.console import Console
from rich.table import Table
from test_options import KINDS, names

from transfer import cli
from transfer.cli.completion import SHELLS
from transfer.cli.examples import EXAMPLES, FIRST, USED
from transfer.cli.options import options_of
from transfer.terminal import spell_what_is_missing

LINES, WIDTH = 32, 80
PROGRAMS = ["", *sorted({words.split()[0] for words in KINDS}), *KINDS]


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def help_of(words, capsys, how="--help"):
    with pytest.raises(SystemExit) as end:
        cli.main([*words.split(), how])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", dict.fromkeys(PROGRAMS))
def test_help_fits_a_screen_and_names_every_option(words, screen, capsys):
    lines = help_of(words, capsys).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    said = set(re.findall(r"--[a-z0-9-]+", " ".join(lines)))
    config = KINDS.get(words)
    flags = [one.flags for one in options_of(config) if one.flags] if config else []
    assert [each for each in flags if not said & set(each)] == []


def test_nothing_after_the_command_shows_what_there_is_and_what_to_try(screen, capsys):
    assert cli.main([]) == 0
    alone = capsys.readouterr().out
    assert alone == help_of("", capsys)
    assert [line.split()[0] for line in alone.splitlines() if re.match("  [a-z]+  ", line)] == [
        *cli.COMMANDS
    ]
    assert all(f"  {line}\n" in alone for line in FIRST)


def test_options_are_those_that_are_parsed():
    for words, config in KINDS.items():
        assert {one.name for one in options_of(config)} == set(names(config)), words
        undescribed = [one.name for one in options_of(config) if not one.about]
        assert undescribed == [], words


def test_what_is_shown_exists():
    assert set(USED) <= set(KINDS)
    for words, used in USED.items():
        assert set(used.split()) <= {one.name for one in options_of(KINDS[words])}
    assert set(EXAMPLES) == {*KINDS, *(words.split()[0] for words in KINDS)}


@pytest.mark.parametrize("line", dict.fromkeys([*FIRST, *chain(*EXAMPLES.values())]))
def test_every_example_is_understood(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(line)
    assert program == "transfer"
    config, run = cli.parse(words)
    assert is_dataclass(config) and callable(run)


def test_what_runs_is_said_first_on_a_terminal(capsys, monkeypatch):
    from transfer.cli import plan_command

    monkeypatch.setattr(plan_command, "run", lambda config: 0)
    words = ["plan", "--context", "4096", "--budget", "0.1"]
    assert cli.main(words) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(words) == 0
    assert capsys.readouterr().err == (
        "transfer plan: model llama-3-70b, context 4096, budget 0.1, policy namm, batch 1, "
        "devices 1\n"
    )


@pytest.mark.parametrize(
    ("settings", "terminal", "coloured"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
@pytest.mark.parametrize("how", ["--help", "--help-all"])
def test_colours_are_for_terminals_or_as_asked(
    settings, terminal, coloured, how, screen, capsys, monkeypatch
):
    monkeypatch.setenv("TERM", "xterm")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
    assert ("\033[1" in help_of("get", capsys, how)) == coloured
    assert cli.main(["nothing"]) == 2
    assert ("\033[1;31merror\033[0m: " in capsys.readouterr().err) == coloured


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_no_locale_breaks_a_line(encoding, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, newline=""))
    spell_what_is_missing()
    table = Table(title="is ≤ 1 → kept")
    table.add_column("policy ± s")
    table.add_row("h2o — █")
    Console(width=40).print(table)
    print("╭─╮│ • Ωmega")
    sys.stdout.flush()
    shown = written.getvalue().decode(encoding)
    assert "<= 1 -> kept" in shown and "|" in shown
    bullet = "•" if encoding == "cp1252" else "*"
    assert shown.splitlines()[-1] == f"+-+| {bullet} \\u03a9mega"


def test_utf8_is_left_alone(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8", errors="strict"))
    spell_what_is_missing()
    assert sys.stdout.errors == "strict"


_COMPLETED = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_tyro_transfer transfer "${COMP_WORDS[$COMP_CWORD]}"
echo "${COMPREPLY[*]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "transfer.sh"
    words = [sys.executable, "-m", "transfer", "--tyro-print-completion", "bash"]
    path.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ev", "eval evolve"),
        ("eval --po", "--policy"),
        ("eval lan", "language"),
        ("eval language --upd", "--update-interval"),
        ("eval --share ", "head layer model both"),
        ("plan --kep", "--kept"),
        ("evolve --no-b", "--no-bias"),
        ("inspect cues --epi", "--episodes"),
    ],
)
def test_a_shell_completes_words(typed, offered, script):
    words = ["bash", "-c", _COMPLETED, "bash", str(script), "transfer", *typed.split(" ")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered.split()


def test_a_shell_that_is_none_is_named(capsys):
    assert cli.main(["--tyro-print-completion"]) == 2
    said = capsys.readouterr().err
    assert all(shell in said for shell in SHELLS)


_SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.{signal})
except BaseException:
    pass
"""
_IMPORTS = """
import signal
from transfer.cli.ending import interruptible
from transfer.errors import resumable
# Shells have it ignored in what they run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
with interruptible(), resumable("all is kept in there"):
    import swallows
print("went on")
"""


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_an_import_would_swallow_ends_the_command(signal, tmp_path):
    (tmp_path / "swallows.py").write_text(_SWALLOWS.format(signal=signal))
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: all is kept in there\n"


@pytest.mark.parametrize("line", [lines[0] for lines in EXAMPLES.values()])
def test_every_command_says_how_to_go_on(line, tmp_path, monkeypatch, capsys):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    _, command, *words = shlex.split(line)
    module = import_module(f"transfer.cli.{command}_command")
    monkeypatch.setattr(module, "_evaluate" if command == "eval" else "run", interrupted)
    assert cli.main([command, *words]) == 130
    assert re.fullmatch(r"interrupted: .*\b(kept|written)\b.*; .*\n", capsys.readouterr().err)


def test_a_reader_that_has_enough_is_no_error():
    words = f"{shlex.quote(sys.executable)} -m transfer --help | true; echo ${{PIPESTATUS[0]}}"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, env=buffered)
    assert (done.stdout, done.stderr) == ("141\n", "")
