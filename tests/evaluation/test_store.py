import csv
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import transfer
from transfer.cli import main
from transfer.errors import UserError
from transfer.evaluation.store import (
    SUMMARY_FIELDS,
    Results,
    Store,
    json_line,
    read_lines,
    read_results,
    write_results,
)
from transfer.provenance import command_line, versions

SETTINGS = {"kind": "toy", "model": "m", "budget": (8, 0.5), "data": Path("here")}
ENDED = ("from 0", "full", None)


def results(**more) -> Results:
    entry = dict.fromkeys(SUMMARY_FIELDS, None) | {"policy": "full", "mean": 1.5, "n": 2}
    given = {
        "kind": "toy",
        "command": "transfer eval language",
        "versions": versions(),
        "metrics": ["points"],
        "keys": ["length"],
        "summary": [entry],
        "rows": [row(0), row(1)],
    }
    return Results(**{**given, **more})


def row(item, **more):
    named = dict(zip(("block", "policy", "budget"), ENDED))
    return {"item": item, "points": 1.0, "failure": None, **named, **more}


def store(folder, settings=SETTINGS, items=(0, 1)):
    return Store(folder, settings, {ENDED: set(items)})


def test_a_folder_round_trips(tmp_path):
    written = results()
    with store(tmp_path / "deep" / "out") as folder:
        for each in written.rows:
            folder.add(each)
        folder.finish(written)
        assert folder.rows == written.rows
    assert read_results(tmp_path / "deep" / "out") == written
    with (tmp_path / "deep" / "out" / "summary.csv").open(newline="") as file:
        [line] = csv.DictReader(file)
    assert tuple(line) == SUMMARY_FIELDS
    assert (line["policy"], line["mean"], line["delta_vs_full"]) == ("full", "1.5", "")


def test_rows_are_on_disk_as_soon_as_they_end_and_survive_a_crash(tmp_path):
    with pytest.raises(RuntimeError), store(tmp_path) as folder:
        folder.add(row(1))
        assert read_lines(tmp_path / "rows.jsonl") == [row(1)]
        raise RuntimeError
    assert read_lines(tmp_path / "rows.jsonl") == [row(1)]
    assert not (tmp_path / "results.json").exists()


def test_what_had_ended_is_there_again_and_summaries_are_not(tmp_path):
    with store(tmp_path) as folder:
        for item in (0, 1):
            folder.add(row(item))
        folder.finish(results())
    # Lists and paths are read back as they were written.
    with store(tmp_path, {**SETTINGS, "budget": [8, 0.5], "data": "here"}) as folder:
        assert (list(folder.ended), folder.rows) == ([ENDED], [row(0), row(1)])
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "blocks.jsonl", "rows.jsonl", "settings.json",
        ]  # fmt: skip


def test_a_block_of_more_items_has_not_ended_and_one_of_others_is_refused(tmp_path):
    with store(tmp_path) as folder:
        for item in (0, 1):
            folder.add(row(item))
    for items, line in (((0,), 2), ((1, 2), 1)):
        with (
            pytest.raises(UserError, match=rf"line {line} of .*rows.jsonl is of item .* not ask"),
            store(tmp_path, items=items),
        ):
            pytest.fail("entered")
    with store(tmp_path, items=(0, 1, 2)) as folder:
        assert (folder.ended, folder.rows) == ({}, [])
    assert (tmp_path / "rows.jsonl").read_text() == ""


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with (
        store(tmp_path),
        pytest.raises(UserError, match=r"another run is writing into .*; wait for it"),
        store(tmp_path),
    ):
        pytest.fail("entered")
    with store(tmp_path) as folder:
        folder.add(row(0))
    assert read_lines(tmp_path / "rows.jsonl") == [row(0)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({**SETTINGS, "kind": "control"}, "a run of another kind; choose another --out"),
        ({**SETTINGS, "model": "n"}, "a run with model m, not n; repeat its settings to resume"),
        ({**SETTINGS, "noise": 0.5}, "a run with noise None, not 0.5"),
        ({"kind": "toy", "model": "m", "budget": (8, 0.5)}, "a run with data here, not None"),
    ],
)
def test_a_run_with_other_settings_is_refused_and_left_alone(tmp_path, settings, sentence):
    with store(tmp_path) as folder:
        for item in (0, 1):
            folder.add(row(item))
        folder.finish(results())
    with pytest.raises(UserError, match=f"^{tmp_path} holds {sentence}"), store(tmp_path, settings):
        pytest.fail("entered")
    assert read_results(tmp_path).summary == results().summary


def test_rows_of_other_settings_that_were_put_into_the_folder_are_refused(tmp_path):
    for name in ("m", "n"):
        with store(tmp_path / name, {**SETTINGS, "model": name}) as folder:
            for item in (0, 1):
                folder.add(row(item))
    for name in ("rows.jsonl", "blocks.jsonl"):
        (tmp_path / "m" / name).write_bytes((tmp_path / "n" / name).read_bytes())
    with (
        pytest.raises(UserError, match="or not of these settings; remove that line"),
        store(tmp_path / "m", {**SETTINGS, "model": "m"}),
    ):
        pytest.fail("entered")


@pytest.mark.parametrize("file", ["rows.jsonl", "results.json"])
def test_a_folder_of_an_earlier_version_is_refused(tmp_path, capsys, file):
    content = '{"seed": 0}\n' if file == "rows.jsonl" else '{"command": "", "summary": []}'
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match="holds a run of another kind"), store(tmp_path):
        pytest.fail("entered")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(file, content)]
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "results.json" in said or "was written by an earlier version of this package" in said


def test_a_folder_that_lost_its_settings_alone_says_so(tmp_path):
    with store(tmp_path) as folder:
        folder.add(row(0))
    (tmp_path / "settings.json").unlink()
    with pytest.raises(UserError, match=r"or one that lost its settings\.json"), store(tmp_path):
        pytest.fail("entered")


def test_a_run_that_was_stopped_before_its_results_says_how_to_go_on(tmp_path):
    with store(tmp_path) as folder:
        folder.add(row(0))
    with pytest.raises(UserError, match="holds a run that was stopped; repeat its command"):
        read_results(tmp_path)


@pytest.mark.parametrize("file", ["rows.jsonl", "results.json"])
def test_results_that_were_changed_are_no_results(tmp_path, file):
    with store(tmp_path) as folder:
        for item in (0, 1):
            folder.add(row(item))
        folder.finish(results())
    path = tmp_path / file
    path.write_text(path.read_text().replace("1.5", "2.5").replace('"points": 1.0', '"points": 2'))
    with pytest.raises(UserError, match=r"or rows\.jsonl was changed since; repeat its"):
        read_results(tmp_path)


def test_columns_that_only_some_entries_have_reach_the_table(tmp_path):
    plain = results()
    write_results(
        tmp_path, replace(plain, summary=[*plain.summary, {**plain.summary[0], "iqm": 3.0}])
    )
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [line["iqm"] for line in csv.DictReader(file)] == ["", "3.0"]


def test_a_table_without_entries_has_its_columns(tmp_path):
    write_results(tmp_path, results(summary=[]))
    assert (tmp_path / "summary.csv").read_text().strip() == ",".join(SUMMARY_FIELDS)


def test_an_unwritable_folder_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write results into .*file/out"),
        store(tmp_path / "file" / "out"),
    ):
        pytest.fail("entered")


def test_a_full_disk_is_one_sentence_and_what_was_there_is_kept(tmp_path):
    with store(tmp_path) as folder:
        folder.add(row(0))
        folder._files["rows.jsonl"] = open("/dev/full", "ab", buffering=0)  # noqa: SIM115, PTH123
        with pytest.raises(UserError, match=r"rows\.jsonl in .*No space left on device; make room"):
            folder.add(row(1))
        folder._files["rows.jsonl"].close()
    assert read_lines(tmp_path / "rows.jsonl") == [row(0)]


def test_no_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with store(None) as folder:
        folder.add(row(0))
        folder.finish(results())
        assert folder.rows == [row(0)]
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_never_reaches_a_file(tmp_path):
    with store(tmp_path) as folder, pytest.raises(ValueError, match="not JSON compliant"):
        folder.add(row(0, points=float("nan")))
    assert (tmp_path / "rows.jsonl").read_text() == ""


def test_a_summary_entry_without_a_schema_field_is_refused():
    with pytest.raises(ValueError, match="lacks model, task"):
        results(summary=[{"policy": "full"}])


def test_reasons_of_failure_are_said_once():
    rows = [row(0), *[row(1, policy=name, failure="no video") for name in ("h2o", "tova")]]
    assert results(rows=[*rows, row(2, failure="no video")]).failures == [
        "1: no video",
        "2: no video",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"results\.json"),
        ('{"kind": "toy"}', "was written by an earlier version"),
        ('{"kind": "toy", "digest": "0"}', "does not hold the results of a run as they were"),
        (json.dumps({"summary": [], "rows": []}), "was written by an earlier version"),
    ],
)
def test_reading_a_folder_without_a_run_is_a_sentence(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_results(tmp_path)


def test_a_line_that_was_cut_is_left_out_and_a_damaged_one_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json_line(row(0)) + json_line(row(1))[:-1])
    assert read_lines(path) == [row(0)]
    path.write_text(json_line(row(0))[:-2] + "\n" + json_line(row(1)))
    with pytest.raises(UserError, match=r"rows.jsonl is damaged; remove it or choose another"):
        read_lines(path)


def test_versions_name_everything_that_computes():
    found = versions(env="Hopper-v4")
    assert list(found) == [
        "namm-transfer", "python", "torch", "transformers", "gymnasium", "mujoco", "numpy", "env",
    ]  # fmt: skip
    assert found["namm-transfer"] == transfer.__version__
    assert all(found.values())


@dataclass
class Nested:
    threads: int = 1


@dataclass
class Config:
    model: str
    run: Nested = field(default_factory=Nested)
    max_steps: int = 5
    policy: tuple[str, ...] = ("h2o",)
    json: bool = False
    out: Path | None = None


def test_command_line_says_only_what_differs_from_the_default():
    assert command_line("eval", Config("dt")) == "transfer eval --model dt"
    config = Config("my model", Nested(4), 9, ("a", "b"), True, Path("x"))
    assert command_line("eval", config) == (
        "transfer eval --model 'my model' --max-steps 9 --policy a b --json --out x --threads 4"
    )
