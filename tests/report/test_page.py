"""The page as a file: whole in itself, the same bytes again, and what is untrusted stays data."""

import json
import re

import pytest
import reported

from transfer.pages import embedded, page
from transfer.report.items import items
from transfer.report.page import build, content, drawing_script
from transfer.report.runs import read_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    reported.texts(base / "texts")
    reported.episodes(base / "episodes")
    reported.evolution(base / "evolved")
    return read_runs([base])


def test_a_folder_of_runs_is_all_of_them(runs):
    assert [run.name for run in runs] == ["episodes", "evolved", "texts"]


def test_it_is_one_small_file_that_asks_for_nothing_and_runs_nothing_but_its_own(runs):
    pytest.importorskip("vl_convert", reason="needs the extra `report`")
    text = build(runs, reported.NASTY)
    assert text == build(runs, reported.NASTY)
    assert len(text.encode()) < 1_500_000
    assert not re.search(
        r"<(link|img|iframe|base)\b|\bsrc=\"http|@import", text.split('id="data"')[0]
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split(";")[1] and "unsafe-eval" not in policy
    # The data, three scripts, and nothing of what they show.
    assert text.count("</script") == len(re.findall(r"<script\b", text)) == 4
    own = text.replace(drawing_script(), "")
    assert "<img" not in own and "onerror" in own


def test_the_data_can_be_read_back(runs):
    told = content(runs, "title")
    text = embedded(told)
    assert json.loads(text) == json.loads(json.dumps(told))
    assert not set("<>&\u2028") & set(text)
    assert told["lines"] and told["items"] and told["figures"]
    assert [run["kind"] for run in told["runs"]] == ["maze", "evolution", "toy"]


def test_half_a_character_in_a_name_is_written_as_such():
    assert json.loads(embedded({"\udcff": 1})) == {"\udcff": 1}
    page("\udcff", "", [], {}).encode()


def test_what_would_end_a_script_does_not():
    text = page("t", "", ["const a = '</script><!--';"], {})
    assert r"'<\/script><\!--'" in text and text.count("</script>") == 3


def test_items_have_what_each_policy_did(runs):
    cell = next(one for one in items(runs, 10**6) if one["task"] == "niah · 2,048 tokens")
    assert cell["contenders"][:2] == ["full", "namm 25%"] and cell["lines"][1] == "namm"
    assert (cell["of"], [one["item"] for one in cell["items"]]) == (3, ["0", "1", "2"])
    second, last = cell["items"][1:]
    assert second["scores"][:3] == [0.95, 0.85, 0.75] and second["kept"][1] == 512
    assert second["replies"][0] == f"{reported.NASTY} 0"
    assert second["right"] == [reported.NASTY, "42"] and "What is 1?" in second["question"]
    # Who failed has no score, and says why.
    assert last["scores"][3] is None and last["failures"][3] == "no room"


def test_items_that_do_not_fit_are_counted(runs):
    found = items(runs, room=12_000)
    assert all(len(json.dumps(cell["items"])) < 12_000 / len(found) + 100 for cell in found)
    assert any(0 < len(cell["items"]) < cell["of"] for cell in found)
