"""Pages of HTML that are whole in themselves: one file, no network, for a browser alone.

What a page shows may come from anywhere (replies of models, names of files), so it is data that
scripts put in as text. A policy of the page's own (Content-Security-Policy) names the scripts that
may run by their digests: were something ever put in as markup, it would not run, nor load anything.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

#: What would end a script, or a string of JavaScript, as JSON may say it too.
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<noscript>This page draws with JavaScript, which is off.</noscript>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


def page(title: str, style: str, scripts: Sequence[str], data: Any) -> str:
    """A page whose scripts find `data` in the element of that name.

    Args:
        title: of the page.
        style: beside that of all pages.
        scripts: of JavaScript, in their order, after that of all pages.
        data: what JSON can say; NaN and infinities are refused.
    """
    own = [_harmless(text) for text in (part("transfer.pages", "base.js"), *scripts)]
    digests = " ".join(f"'sha256-{_digest(text)}'" for text in own)
    return _PAGE.format(
        policy=f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        title=html.escape(_printable(title)),
        style=part("transfer.pages", "base.css") + style,
        data=embedded(data),
        scripts="\n".join(f"<script>{text}</script>" for text in own),
    )


def embedded(data: Any) -> str:
    """JSON that may stand in a page, whatever its strings say."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _printable(text).translate(_ESCAPES)


def _printable(text: str) -> str:
    """Half a character cannot be encoded, and a file's name may be one."""
    return text.encode("utf-8", "backslashreplace").decode()


def part(package: str, name: str) -> str:
    """A file that lies in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _harmless(script: str) -> str:
    """A script without what would end it, in a string of it."""
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
