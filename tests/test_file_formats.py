"""The page of file formats names the fields that runs write, all of them and no others."""

import csv
import json
import re
from pathlib import Path

import pytest
import tiny
import torch
from safetensors import safe_open
from tasks.words import word_tokenizer

from transfer.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "file-formats.md").read_text()
RUNS = {
    "language": "eval --model llama-recall --documents 1",
    "text": "eval language --model words --task recall --length 300 --documents 1",
    "perplexity": "eval language --model words --task perplexity --data texts --length 40 "
    "--documents 1 --update-interval 8",
    "video": "eval video --model llava-next-video --questions 1 --data videos",
    "control": "eval control --model decision-transformer-tmaze-none --episodes 1 --max-steps 12",
    "hopper": "eval control --model decision-transformer --env hopper --episodes 1 --max-steps 4 "
    "--memory full",
    "evolve": "evolve --generations 1 --population 4 --documents 1 --validation-documents 1 "
    "--tasks recall",
    "records": "record --models llama-recall --tasks recall --lengths 64 --documents 1",
    "half.json": "calibrate --model llama-recall --policy namm:recall --kept 0.5 --task recall "
    "--length 160 --documents 1 --update-interval 32",
}
KINDS = {
    "language": "Language, symbols",
    "text": "Language, text",
    "perplexity": "Perplexity",
    "video": "Video",
    "control": "Control",
    "hopper": "Control",
}
#: The environment decides which of them there is.
SCORES = {"control": {"d4rl_score"}, "hopper": {"success"}}


def named(heading):
    """The fields in the table below a heading."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert section, heading
    cells = re.findall(r"^\| (`.*?) \|", section[1], re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(.+?)`", cell)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with what a tiny run of each kind wrote."""
    folder = tmp_path_factory.mktemp("formats")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.manual_seed(0)
        tokenizer = word_tokenizer()
        tiny.llama(vocabulary=len(tokenizer)).save_pretrained("words")
        tokenizer.save_pretrained("words")
        Path("texts").mkdir()
        Path("texts", "a.txt").write_text("The lamp is red and the box is blue. " * 9)
        for name, line in RUNS.items():
            policy = ["--policy", "h2o", "--budget", "0.25"] if name in KINDS else []
            assert main([*line.split(), *policy, "--out", name]) == 0
    return folder


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_rows(written, kind):
    documented = named("rows.jsonl") | named(KINDS[kind])
    assert {field for row in rows_of(written / kind) for field in row} == documented - (
        SCORES.get(kind, set())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_results(written, kind):
    results = json.loads((written / kind / "results.json").read_text())
    assert set(results) == named("results.json")
    entry = named("An entry of the summary")
    rows, found = named("rows.jsonl") | named(KINDS[kind]), set(results["summary"][0])
    own = set(re.findall(r"`(.+?)`", PAGE.partition("Beside these an entry has")[2][:700]))
    of_window = {name for name in found if "window" in name}
    assert entry <= found and found - entry - of_window <= rows | own
    with (written / kind / "summary.csv").open() as table:
        assert set(next(csv.reader(table))) == found


def test_blocks(written):
    for line in (written / "language" / "blocks.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == named("blocks.jsonl")


def test_settings(written):
    settings = json.loads((written / "language" / "settings.json").read_text())
    assert named("settings.json") <= set(settings)
    options = set(settings) - named("settings.json")
    assert {"model", "task", "policy", "budget", "update_interval", "share"} <= options


def test_an_evolution(written):
    run = written / "evolve"
    [line] = (run / "seed-0" / "ledger.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == named("ledger.jsonl")
    assert set(json.loads((run / "run.json").read_text())) == named("run.json")
    assert {path.name for path in run.iterdir()} == {"run.json", "start", "namm", "seed-0"}
    assert set(json.loads((run / "namm" / "config.json").read_text())) == named("config.json")
    with safe_open(run / "namm" / "namm.safetensors", "pt") as file:
        assert set(file.keys()) == named("namm.safetensors")


def test_records(written):
    assert set(json.loads((written / "records" / "record.json").read_text())) == named(
        "record.json"
    )
    [record] = (written / "records").glob("*.safetensors")
    with safe_open(record, "pt") as file:
        assert {name.partition(".")[2] for name in file.keys()} == named("A record's tensors")  # noqa: SIM118


def test_a_threshold(written):
    found = json.loads((written / "half.json").read_text())
    assert set(found) == named("The file of transfer calibrate")
