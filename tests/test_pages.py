"""What a page tells a reader to type works, and prints what the page shows."""

import re

import pages
import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to type in, which sees nothing of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    yield tmp_path
    pages.clear(tmp_path)


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_does_what_it_says(page, folder):
    for block, printed in pages.run(page, folder):
        assert pages.agrees(block.shown, printed), (
            f"{page.name} says that\n{block.text}\nprints\n{block.shown}\nand it prints\n{printed}"
        )


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_begins_with_what_one_will_have_and_ends_with_where_to_go(page):
    title, first, *_, last = page.read_text(encoding="utf-8").strip().split("\n\n")
    assert title.startswith("# ") and "```" not in first
    assert re.search(r"\]\([\w./#-]+\.md[\w#-]*\)", last), "a link to what comes next"


def test_what_is_shown_and_what_is_printed_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# T\n\n`rule.py`:\n\n```python\nN = 3\n```\n\n```python\nprint('kept', 1.5)\n```\n\n"
        "```text\nkept 12.25\n```\n\n<!-- not run: a hub -->\n```console\n$ false\n```\n\n"
        "```console\n$ cat rule.py  # our own\nN = 4\n$ echo all of it\n... of\n```\n"
    )
    found = [(block.shown, printed) for block, printed in pages.run(page, tmp_path)]
    assert found == [("", ""), ("kept 12.25\n", "kept 1.5\n"), ("N = 4\n", "N = 3\n"),
                     ("... of\n", "all of it\n")]  # fmt: skip
    assert [pages.agrees(*each) for each in found] == [True, True, True, False]
    assert pages.agrees("...\nend |. ...|", "begun\nend |.  : |")
    assert not pages.agrees("begun ...\nend", "begun\nended")


def test_a_block_that_nobody_would_run_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# T\n\n```sh\nrm -r /\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md has a block `sh`"):
        pages.blocks(page)
