"""Real prose that is on every machine: the docstrings of Python's standard library."""

import ast
import inspect
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from transfer.errors import UserError

# In this order; a later version of Python may say some sentences differently.
_MODULES = (
    "argparse ast bdb calendar cmd codecs configparser contextlib csv datetime dataclasses difflib "
    "dis doctest enum filecmp fileinput fractions ftplib functools getopt gettext glob gzip heapq "
    "hmac imaplib inspect ipaddress locale lzma mailbox mimetypes netrc ntpath numbers optparse os "
    "pathlib pdb pickle pickletools pkgutil platform plistlib poplib posixpath pprint profile "
    "pstats pydoc queue quopri random reprlib runpy sched selectors shelve shlex shutil smtplib "
    "socket socketserver statistics string stringprep subprocess sysconfig tarfile tempfile "
    "textwrap threading timeit trace traceback turtle types typing uuid warnings wave weakref "
    "webbrowser zipapp zipfile"
)
_WORDS = range(4, 25)
_PLAIN = re.compile(r"[A-Z][A-Za-z]*([ ,;:]+[A-Za-z'-]+)*\.")


@cache
def sentences() -> tuple[str, ...]:
    """Plain English sentences of the docstrings, in the order they stand in the library.

    Raises:
        UserError: this Python has no source files of its library.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found: list[str] = []
    for name in _MODULES.split():
        paths = (library / f"{name}.py", library / name / "__init__.py")
        for path in filter(Path.is_file, paths):
            found.extend(_sentences(path.read_text(encoding="utf-8")))
    if not found:
        raise UserError(
            f"no sources of Python's standard library in {library}, whose docstrings are the prose;"
            " use a Python with sources, or a task without prose"
        )
    return tuple(found)


def _sentences(source: str) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and (text := ast.get_docstring(node, clean=False)):
            for sentence in re.split(r"(?<=\.)\s+", inspect.cleandoc(text)):
                words = sentence.split()
                if len(words) in _WORDS and _PLAIN.fullmatch(" ".join(words)):
                    yield " ".join(words)
