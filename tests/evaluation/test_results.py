import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import transfer
from transfer.errors import UserError
from transfer.evaluation.results import (
    SUMMARY_FIELDS,
    ResultFolder,
    Results,
    read_results,
)
from transfer.provenance import command_line, versions


def results(**more) -> Results:
    entry = dict.fromkeys(SUMMARY_FIELDS, None) | {"policy": "full", "mean": 1.5, "n": 2}
    return Results(
        command="transfer eval",
        versions=versions(),
        seeds=[0, 1],
        summary=[entry],
        rows=[{"seed": 0, "return": 1.0}, {"seed": 1, "return": 2.0}],
        **more,
    )


def test_a_folder_round_trips(tmp_path):
    written = results()
    with ResultFolder(tmp_path / "deep" / "out") as folder:
        for row in written.rows:
            folder.append(row)
        folder.finish(written)
    assert read_results(tmp_path / "deep" / "out") == written
    with (tmp_path / "deep" / "out" / "summary.csv").open(newline="") as file:
        [line] = csv.DictReader(file)
    assert tuple(line) == SUMMARY_FIELDS
    assert (line["policy"], line["mean"], line["delta_vs_full"]) == ("full", "1.5", "")


def test_rows_are_on_disk_as_soon_as_they_end_and_survive_a_crash(tmp_path):
    with pytest.raises(RuntimeError), ResultFolder(tmp_path) as folder:
        folder.append({"seed": 3})
        assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"seed": 3}
        raise RuntimeError
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"seed": 3}
    assert not (tmp_path / "results.json").exists()


def test_an_earlier_run_is_replaced_as_a_whole(tmp_path):
    with ResultFolder(tmp_path) as folder:
        folder.append({"seed": 3})
        folder.finish(results())
    with ResultFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_text() == ""


def test_columns_that_only_some_entries_have_reach_the_table(tmp_path):
    plain = results()
    more = Results("", {}, [], [*plain.summary, {**plain.summary[0], "iqm": 3.0}], [])
    with ResultFolder(tmp_path) as folder:
        folder.finish(more)
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [line["iqm"] for line in csv.DictReader(file)] == ["", "3.0"]


def test_an_unwritable_folder_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write results into .*file/out"),
        ResultFolder(tmp_path / "file" / "out"),
    ):
        pytest.fail("entered")


def test_no_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ResultFolder(None) as folder:
        folder.append({"seed": 0})
        folder.finish(results())
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_never_reaches_a_file(tmp_path):
    with ResultFolder(tmp_path) as folder, pytest.raises(ValueError):
        folder.append({"return": float("nan")})


def test_a_summary_entry_without_a_schema_field_is_refused():
    with pytest.raises(ValueError, match="lacks model, task"):
        Results("", {}, [], [{"policy": "full"}], [])


def test_reading_a_folder_without_a_run_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(tmp_path)


def test_versions_name_everything_that_computes():
    found = versions(env="Hopper-v4")
    assert list(found) == [
        "namm-transfer", "python", "torch", "transformers", "gymnasium", "mujoco", "numpy", "env",
    ]  # fmt: skip
    assert found["namm-transfer"] == transfer.__version__
    assert all(found.values())


def test_command_line_says_only_what_differs_from_the_default():
    @dataclass
    class Config:
        model: str
        max_steps: int = 5
        policy: tuple[str, ...] = ("h2o",)
        json: bool = False
        out: Path | None = None

    assert command_line("eval", Config("dt")) == "transfer eval --model dt"
    config = Config("my model", 9, ("a", "b"), True, Path("x"))
    assert command_line("eval", config) == (
        "transfer eval --model 'my model' --max-steps 9 --policy a b --json --out x"
    )
