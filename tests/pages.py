"""Runs what the pages of the documentation tell a reader to type, and compares what they show.

A page is read from top to bottom. Of its fenced blocks

* one below a line that is a file's name, as "`my_rules.py`:", is that file;
* `literalinclude` puts a file of the repository beside it, under its own name;
* `python` is run, all of a page in one namespace; a `text` block right below it is its output;
* `console` has commands, behind `$`, and below each its output; what follows a `#` explains. One
  that shows a line `error: ...` fails.

A block below `<!-- not run: REASON -->` is not run. Of an output spaces, rules, numbers and
drawings between bars may differ, and `...` stands for anything.
"""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

from transfer import cli

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("how-to/*.md")])
_FENCE = re.compile(
    r"(?P<above>[^\n]*)\n\n?```(?P<kind>\{literalinclude\} |)(?P<name>[^\n]*)\n"
    r"(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"`([\w./-]+)`:")
_COMMAND = re.compile(r"^\$ (.*(?:\\\n.*)*)\n?((?:(?!\$ ).*\n?)*)", re.MULTILINE)
#: What is typed is in the first two; the others show something.
_KINDS = ("python", "console", "text", "json", "toml")


@dataclass(frozen=True)
class Block:
    """Something to do, and what it prints.

    Attributes:
        kind: `python`, `console`, or `file`.
        text: the code, the command, or the file's content.
        shown: what the page says that it prints.
        name: of the file.
        why_not: the reason for which it is not run.
    """

    kind: str
    text: str
    shown: str = ""
    name: str = ""
    why_not: str = ""


def blocks(page: Path) -> list[Block]:
    """What a page says is to be done, in its order.

    Raises:
        AssertionError: it has a block of another kind, which nobody would run.
    """
    found: list[Block] = []
    text = page.read_text(encoding="utf-8")
    end = 0
    for fence in _FENCE.finditer(text):
        above, name, body = fence["above"].strip(), fence["name"].strip(), fence["body"]
        marked = re.fullmatch(r"<!-- not run: (.+) -->", above)
        why_not = marked[1] if marked else ""
        follows = not text[end : fence.start("name") - 3].strip()
        end = fence.end()
        if file := _FILE.fullmatch(above):
            found.append(Block("file", body, name=file[1]))
        elif fence["kind"]:
            included = (page.parent / name).resolve()
            found.append(Block("file", included.read_text(), name=included.name))
        elif name == "text" and follows and found and found[-1].kind == "python":
            last = found.pop()
            found.append(Block("python", last.text, body, why_not=last.why_not))
        elif name == "console":
            commands = _COMMAND.findall(body)
            found += [Block("console", said, out, why_not=why_not) for said, out in commands]
        elif name == "python":
            found.append(Block("python", body, why_not=why_not))
        assert file or fence["kind"] or name in _KINDS, f"{page.name} has a block `{name}`"
    return found


def run(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Do what a page says in a folder, which is the current one; each block with its output."""
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.why_not:
            continue
        printed = StringIO()
        with redirect_stdout(printed), redirect_stderr(StringIO()) as warned:
            if block.kind == "file":
                (folder / block.name).write_text(block.text, encoding="utf-8")
            elif block.kind == "python":
                exec(compile(block.text, page.name, "exec"), names)
            else:
                code = _command(block.text)
                fails = re.search("^error: ", block.shown, re.MULTILINE)
                assert bool(code) == bool(fails), f"{block.text}\n{warned.getvalue()}"
                if fails:
                    print(warned.getvalue())
        yield block, printed.getvalue()


def _command(line: str) -> int:
    """What a shell would do; our command and Python in this process, which has torch already."""
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    if words[0] == "transfer":
        try:
            return cli.main(words[1:])
        except SystemExit as end:
            return int(end.code or 0)
    if words[0] == "python" and words[1].endswith(".py"):
        with mock.patch.object(sys, "argv", words[1:]):
            runpy.run_path(words[1], run_name="__main__")
        return 0
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    sys.stdout.write(done.stdout + done.stderr)
    return done.returncode


def agrees(shown: str, printed: str) -> bool:
    """Whether an output is as shown; where nothing is shown, anything is."""
    # Masked first, since a drawing may have dots of its own.
    pieces = (re.escape(piece.strip()) for piece in _masked(shown).split("..."))
    told = re.fullmatch(" ?.*? ?".join(pieces), _masked(printed), re.DOTALL)
    return not shown.strip() or bool(told)


def _masked(text: str) -> str:
    """Numbers, the widths that they make, and drawings are of the processor."""
    text = re.sub(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", "0", text)
    text = re.sub(r"\|[ .:+#]*\|", "| |", text)
    text = re.sub(r"([─━┃│┏┓┗┛┡┩└┘┬┴┳┻╇┴])\1+", r"\1", text)
    return " ".join(text.split())


def clear(folder: Path) -> None:
    """Forget the modules that were imported from a folder."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
