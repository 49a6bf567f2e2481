"""What is published, the table of it, and that documents hold that table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import reported

from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation.store import Results
from transfer.report.leaderboard import BEGIN, END, is_stale, put_in, table
from transfer.report.page import build
from transfer.report.published import publish, read_published
from transfer.report.runs import Evaluated

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "results"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def run(*entries, name="run", **told) -> Evaluated:
    usual = {"kind": "language", "command": "transfer eval --data prose", "versions": {}}
    metrics = {"metrics": ["score"], "keys": ["length"], "rows": []}
    return Evaluated(name, Results(summary=list(entries), **{**usual, **metrics, **told}))


def entry(policy, budget, mean, **more):
    return reported.entry(policy, budget, mean, task="niah", length=512, model="smol") | more


def cells(made):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines()[2:-2]]


@pytest.fixture(scope="module")
def made() -> str:
    return table(read_published(PUBLISHED))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_table_of_documents_is_that_of_the_published_results(document, made):
    text = document.read_text(encoding="utf-8")
    remedy = f"run `transfer leaderboard --table {document.relative_to(ROOT)}`"
    assert not is_stale(text, made), remedy


def test_a_changed_number_makes_it_stale(made):
    text = put_in(f"# Title\n{BEGIN}\n{END}\nmore\n", made)
    assert text.startswith(f"# Title\n{BEGIN}\n| task |") and text.endswith(f"{END}\nmore\n")
    assert not is_stale(text, made)
    assert is_stale(text.replace("94.3", "94.4"), made)
    assert not is_stale("no table", made)
    windows = text.replace("\n", "\r\n")
    assert put_in(windows, made) == windows and not is_stale(windows, made)
    assert is_stale(windows.replace("94.3", "94.4"), made)
    for wrong in ("no marks", f"{END}\n{BEGIN}\n", BEGIN, f"`{BEGIN}` and `{END}`"):
        with pytest.raises(UserError, match="has no line <!-- leaderboard --> with"):
            put_in(wrong, made)


def test_published_results_say_nothing_of_a_machine_and_no_row():
    files = sorted(PUBLISHED.rglob("*.json"))
    assert files
    for path in files:
        text = path.read_text()
        assert len(text) < 400_000 and "/tmp" not in text and "/root" not in text, path
        assert "rows" not in json.loads(text)


def test_columns_are_namms_and_rules_stand_beside_them():
    entries = (
        entry("full", None, 0.9), entry("namm:recall", 64, 0.5), entry("h2o", 64, 0.6),
        entry("recency", 64, 0.25), entry("snapkv", 64, 0.3), entry("cache", 64, 0.8),
        entry("h2o:share=layer", 64, 0.7), entry("namm:recall", 64, 0.1, length=256),
        entry("h2o", 0.25, 0.2),
    )  # fmt: skip
    made = table([run(*entries)])
    assert made.splitlines()[0] == "| task | unpruned | namm-recall | h2o | best other rule |"
    assert cells(made) == [[
        "smol, niah of prose · 512 tokens, score, %, 64 tokens", "90.0 [80.0 100.0]",
        "50.0 [40.0 60.0]", "**60.0** [50.0 70.0]", "30.0 [20.0 40.0] snapkv",
    ]]  # fmt: skip


def test_runs_of_one_question_share_a_line():
    first = run(entry("full", None, 0.9), entry("namm:a", 0.25, 0.5))
    second = run(entry("full", None, 0.8), entry("namm:b", 0.25, 0.6), entry("h2o", 0.25, 0.1))
    [line] = cells(table([first, second]))
    assert line[1:5] == [
        "90.0 [80.0 100.0]", "50.0 [40.0 60.0]", "**60.0** [50.0 70.0]", "10.0 [0.0 20.0]",
    ]  # fmt: skip


def test_a_namm_whose_state_is_bytes_stands_in_its_column():
    plain = run(entry("full", None, 0.9), entry("namm:a", 0.25, 0.5))
    stored = run(entry("full", None, 0.9), entry("namm:a:state=byte", 64, 0.6))
    made = table([plain, stored])
    assert made.splitlines()[0].startswith("| task | unpruned | namm-a | h2o |")
    assert [line[2] for line in cells(made)] == ["**50.0** [40.0 60.0]", "**60.0** [50.0 70.0]"]


def test_of_a_benchmark_only_the_mean_over_its_tasks_is_shown():
    tasks = [
        entry(policy, budget, mean) | {"task": f"longbench/{task}"}
        for task in ("qasper", "trec")
        for policy, budget, mean in (("full", None, 0.9), ("namm:a", 0.25, 0.5))
    ]
    family = {"task": "longbench", "group_by": "family", "group": "longbench"}
    whole = [
        entry("full", None, 0.7) | family,
        entry("namm:a", 0.25, 0.4) | family,
    ]
    assert len(cells(table([run(*tasks)]))) == 2
    [line] = cells(table([run(*tasks, *whole)]))
    assert line[0].startswith("smol, longbench") and "/" not in line[0]
    assert line[1:3] == ["70.0 [60.0 80.0]", "**40.0** [30.0 50.0]"]


def test_what_is_published_is_read_back_to_six_digits(tmp_path):
    found = run(
        entry("full", None, 1 / 3),
        entry("namm", 64, 2 / 3, delta_vs_full=1 / 3, delta_low=0.25, delta_high=None),
        entry("namm:/tmp/x/mine:share=layer", 64, 2 / 3),
        entry("full", None, 0.5, group_by="category", group="x"),
        command="transfer eval --model /home/me/models/smol --namm universal --out /tmp/x",
    )
    path = publish(found, tmp_path)
    [back] = read_published(tmp_path)
    assert back.results.command == "transfer eval --model smol --namm universal --out x"
    full, namm, mine = back.results.summary
    assert (full["mean"], namm["policy"], mine["policy"]) == (
        0.333333, "namm:universal", "namm:mine:share=layer",
    )  # fmt: skip
    assert (namm["delta_vs_full"], namm["delta_low"]) == (0.333333, 0.25)
    # The same bytes again, of what was read back too.
    first = path.read_bytes()
    assert publish(found, tmp_path).read_bytes() == first
    assert publish(replace(back, name="again"), tmp_path).read_bytes() == first
    path.write_text(path.read_text().replace("0.333333", "0.4"))
    with pytest.raises(UserError, match=r"run.json was changed after it was written; publish"):
        read_published(tmp_path)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reported.texts(tmp_path / "run")
    assert main(["leaderboard", "out", "--add", "run"]) == 0
    assert capsys.readouterr().out == "out/run.json\n"
    assert main(["leaderboard", "out"]) == 0
    printed = capsys.readouterr().out
    assert "| namm-recall |" in printed
    Path("a.md").write_text(f"{BEGIN}\n{END}\n")
    assert main(["leaderboard", "out", "--table", "a.md"]) == 0
    assert Path("a.md").read_text() == f"{BEGIN}\n{printed}{END}\n"
    for words, said in (
        (["nowhere"], "nowhere holds no published results; add some with"),
        (["out", "--table", "run/summary.csv"], "the document has no line <!-- leaderboard -->"),
        (["out", "--out", "x.png"], "out x.png is no .html file"),
    ):
        assert main(["leaderboard", *words]) == 2
        assert said in capsys.readouterr().err


def test_the_page_of_all_is_the_same_bytes_again():
    pytest.importorskip("vl_convert", reason="needs the extra `report`")
    pages = {build(read_published(PUBLISHED), "Leaderboard") for _ in range(2)}
    assert len(pages) == 1 and len(pages.pop().encode()) < 3_000_000


def test_averages_of_a_suite_are_of_their_modality_against_its_base():
    def average(modality, policy, mean, tasks):
        known = reported.entry(policy, None, mean, task=f"average {modality}", model="all")
        return known | {"metric": "change", "n": tasks, "modality": modality}

    bases = (("language", "full", 8), ("video", "full", 1), ("control", "window", 9))
    entries = [
        average(modality, policy, mean, tasks)
        for modality, base, tasks in bases
        for policy, mean in ((base, 0.0), ("namm:recall", -0.25), ("recency", -0.5))
    ]
    found = cells(table([run(*entries, kind="suite", metrics=["score", "change"])]))
    assert [row[0] for row in found] == [
        "average of 8 language tasks, change in %",
        "average of 9 control tasks, change in %",
    ]
    for _, base, own, *_ in found:
        assert base.startswith("0.0") and own.startswith("**-25.0**")
