"""`transfer report`: tables, a page and pictures, of any folders."""

import json
import sys

import pytest
import reported

from transfer.cli import main
from transfer.report.page import drawing_script


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def draws():
    pytest.importorskip("vl_convert", reason="needs the extra `report`")


def test_tables_and_a_page_in_the_folder(here, draws, capsys):
    reported.texts(here / "texts")
    assert main(["report", "texts"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("texts/report.html\n") and "namm:recall" in said.out
    assert "leaderboard" in (here / "texts" / "report.html").read_text()
    # It does not disturb what reads the folder.
    assert main(["report", "texts", "--out", "deep/er/page.html"]) == 0
    assert (here / "deep" / "er" / "page.html").read_bytes() == (
        here / "texts" / "report.html"
    ).read_bytes()


def test_several_folders_make_one_page_here(here, draws, capsys):
    reported.texts(here / "a" / "run")
    reported.evolution(here / "b" / "run")
    assert main(["report", "a/run", "b/run"]) == 0
    assert capsys.readouterr().out.endswith("\nreport.html\n")
    text = (here / "report.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert [run["name"] for run in data["runs"]] == ["a/run", "b/run"]
    # The same folder twice is one run.
    assert main(["report", "a/run", "a/run", "--out", "twice.html"]) == 0
    assert "== run" not in capsys.readouterr().out


def test_an_evolution_alone_has_a_page(here, draws, capsys):
    reported.evolution(here / "run")
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == "run/report.html\n"


def test_every_figure_of_what_counts_as_a_picture(here, draws, capsys):
    reported.texts(here / "texts", tasks=("niah",))
    reported.episodes(here / "texts2")
    reported.evolution(here / "run")
    assert main(["report", ".", "--pictures", "drawn"]) == 0
    names = {path.name for path in (here / "drawn").iterdir()}
    assert {
        "held-held-mean-2.png", "held-peak-bytes-2.png", "forest-full-1.png", "heat-1.png",
        "forest-window-2.png", "matrix-1.png", "series-1.png", "steps-1.png", "evolution-2.png",
    } <= names  # fmt: skip
    assert "held-held-mean-3.png" not in names
    for name in names:
        content = (here / "drawn" / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000, name
    assert capsys.readouterr().out.count(".png\n") == len(names)


def test_a_run_that_was_stopped_is_left_out_of_many_and_refused_alone(here, draws, capsys):
    reported.evolution(here / "all" / "run")
    (here / "all" / "stopped").mkdir()
    for name, text in (("rows.jsonl", ""), ("settings.json", "{}")):
        (here / "all" / "stopped" / name).write_text(text)
    assert main(["report", "all"]) == 0
    assert capsys.readouterr().err == "left out all/stopped: that run was stopped\n"
    assert main(["report", "all/stopped"]) == 2
    assert "holds a run that was stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere holds no results; name what"),
        (["."], ". holds no results; name what"),
        ([], ""),
        (["run", "--out", "page.png"], "out page.png is no .html file; rename it"),
        (["run", "--out", "run/report.html/x.html"], "cannot write run/report.html/x.html"),
    ],
)
def test_bad_input_is_a_sentence(here, draws, capsys, words, said):
    if "run" in words:
        reported.evolution(here / "run")
        main(["report", "run"])
    capsys.readouterr()
    try:
        code = main(["report", *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_without_the_extra_there_are_tables_and_a_word_of_it(here, monkeypatch, capsys):
    monkeypatch.setattr("transfer.cli.report_command.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    drawing_script.cache_clear()
    reported.texts(here / "texts")
    reported.evolution(here / "run")
    assert main(["report", "texts"]) == 0
    told = capsys.readouterr()
    assert "namm:recall" in told.out and "pip install 'namm-transfer[report]'" in told.err
    for words in (["texts", "--out", "page.html"], ["run"]):
        assert main(["report", *words]) == 2
        assert "run `pip install namm-transfer[report]`" in capsys.readouterr().err
        assert not (here / "page.html").exists()
