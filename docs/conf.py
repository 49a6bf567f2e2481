"""The documentation site: `make docs` builds it strictly, as static files that ask no network."""

import os
import re
import subprocess
import sys

project = "transfer"
copyright = "the authors of transfer"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = "transfer"
html_baseurl = "/"
myst_heading_anchors = 3
default_role = "code"
# outputs of notebooks are committed; the tests execute them
nb_execution_mode = "off"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
nitpicky = False


def _help(words: list[str]) -> str:
    plain = dict(os.environ, COLUMNS="100", NO_COLOR="1", TERM="dumb")
    command = [sys.executable, "-m", "transfer", *words, "--help"]
    shown = subprocess.run(command, env=plain, capture_output=True, text=True, check=True).stdout
    return f"```text\n{shown.strip()}\n```"


def _insert_help(_app: object, _name: str, source: list[str]) -> None:
    """The help of `transfer WORDS` stands where a page says `<!-- help: WORDS -->`."""
    source[0] = re.sub(r"<!-- help: ([\w -]*)-->", lambda found: _help(found[1].split()), source[0])


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _insert_help)
