"""Result folders as tables: every row, typed alike in every run."""

import json
import sys

import pandas
import pyarrow
import pytest

import transfer
from transfer.errors import UserError
from transfer.evaluation.benchmark import ROW_FIELDS
from transfer.evaluation.store import (
    SUITE,
    SUMMARY_FIELDS,
    Results,
    json_line,
    write_results,
)

VERSIONS = {"python": "3"}


def row(item, **more):
    told = dict.fromkeys(ROW_FIELDS) | {"model": "m", "task": "t", "policy": "full"}
    return {**told, "item": item, "cluster": item, "block": "b", **more}


def written(folder, rows, kind="toy", summary=None):
    entry = dict.fromkeys(SUMMARY_FIELDS) | {"policy": "full", "n": 2, "mean": 1, "budget": 8}
    summary = [entry] if summary is None else summary
    results = Results(kind, "transfer eval", VERSIONS, ("points",), (), summary, rows)
    folder.mkdir(parents=True)
    if kind != SUITE:
        (folder / "rows.jsonl").write_text("".join(map(json_line, rows)))
    write_results(folder, results)
    return folder


@pytest.fixture
def folder(tmp_path):
    rows = [
        row(0, points=1, budget=None, labels=["a", "b"], ok=True, cache_bytes=512),
        row(1, points=0, budget=1, labels=[], ok=None, cache_bytes=None, failure="it broke"),
        row("two", points=None, budget=1.0, ok=False, reply="no"),
    ]
    return written(tmp_path / "run", rows)


def test_rows_keep_their_values_and_say_their_types(folder):
    rows = transfer.results.load(folder)
    assert rows["item"].tolist() == ["0", "1", "two"]
    assert rows.points.tolist()[:2] == [1.0, 0.0] and rows.points.isna().tolist()[2]
    assert rows.budget_kind.tolist()[1:] == ["tokens", "fraction"]
    assert rows.failure.dropna().tolist() == ["it broke"]
    assert rows.labels.tolist() == [["a", "b"], [], None]
    assert list(rows)[list(rows).index("budget") + 1] == "budget_kind"
    types = rows.dtypes.astype(str).to_dict()
    assert {name: types[name] for name in ("points", "budget", "held_mean", "threshold")} == (
        dict.fromkeys(("points", "budget", "held_mean", "threshold"), "Float64")
    )
    assert (types["ok"], types["cache_bytes"], types["sinks"]) == ("boolean", "Int64", "Int64")
    assert types["labels"] == "object" and types["item"] == types["reply"] == "string"


def test_all_rows_have_the_types_that_arrow_and_datasets_know(folder):
    table = pyarrow.Table.from_pandas(transfer.results.load(folder))
    kinds = {field.name: str(field.type).removeprefix("large_") for field in table.schema}
    assert (kinds["budget"], kinds["item"], kinds["ok"]) == ("double", "string", "bool")
    assert kinds["labels"].startswith("list<")
    assert json.loads(table.schema.metadata[b"pandas"])["attributes"]["command"] == "transfer eval"


def test_the_summary_is_a_table_too(folder):
    summary = transfer.results.load(str(folder), "summary")
    assert [*summary.columns] == [*SUMMARY_FIELDS[:4], "budget_kind", *SUMMARY_FIELDS[4:]]
    assert str(summary["mean"].dtype) == "Float64" and str(summary.n.dtype) == "Int64"
    assert str(summary.delta_vs_full.dtype) == "Float64"
    assert summary.attrs["metrics"] == ["points"] and summary.attrs["versions"] == VERSIONS


def test_rows_of_a_suite_are_those_of_its_sections(tmp_path):
    out = written(tmp_path / "suite", [row("x", points=1.0)], SUITE)
    for name, item in (("video/llava", 3), ("control/walker", 4)):
        written(out / name, [row(item, points=0.5)])
    rows = transfer.results.load(out)
    found = rows[["section", "item"]].to_numpy().tolist()
    assert found == [["control/walker", "4"], ["video/llava", "3"]]
    assert len(transfer.results.load(out, "summary")) == 1


def test_a_run_without_rows_is_an_empty_table(tmp_path):
    out = written(tmp_path / "run", [], summary=[])
    assert len(transfer.results.load(out)) == len(transfer.results.load(out, "summary")) == 0


def test_what_cannot_be_read_is_said(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"what is 'all' .* use 'rows' or 'summary'"):
        transfer.results.load(folder, "all")
    with pytest.raises(UserError, match="folder is None"):
        transfer.results.load(None)
    with pytest.raises(UserError, match=r"holds no results\.json"):
        transfer.results.load(tmp_path)
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json_line(row(9)))
    with pytest.raises(UserError, match=r"rows\.jsonl was changed since"):
        transfer.results.load(folder)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install namm-transfer\[pandas\]"):
        transfer.results.load(folder)
    assert pandas.__version__
