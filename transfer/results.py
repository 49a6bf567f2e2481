"""Results of evaluations as tables of pandas, for notebooks and for `datasets`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transfer.arguments import typed
from transfer.errors import UserError
from transfer.evaluation.benchmark import ROW_FIELDS
from transfer.evaluation.store import (
    RESULTS_FILE,
    SUITE,
    SUMMARY_FIELDS,
    Results,
    Row,
    read_results,
)

if TYPE_CHECKING:
    from pandas import DataFrame  # pyright: ignore[reportMissingImports]
else:
    # Annotations are read when functions are called, and pandas may not be there.
    DataFrame = Any

_TEXT, _NUMBER, _WHOLE, _TRUTH = "string", "Float64", "Int64", "boolean"
#: Columns whose values say too little of their type: of several, of one by chance, or none.
_TYPES = {
    **dict.fromkeys(("item", "cluster", "failure", "pair", "eviction", "share"), _TEXT),
    **dict.fromkeys(("update_interval", "keep_recent", "sinks"), _WHOLE),
    **dict.fromkeys(("budget", "nominal", "share_floor", "threshold"), _NUMBER),
}
#: Of what results say of a run, what a table carries along.
_ABOUT = ("kind", "command", "metrics", "interrupted", "notes")


@typed
def load(folder: str | Path, what: Literal["rows", "summary"] = "rows") -> DataFrame:
    """The rows of an evaluation, one an item and contender, or its summary.

    Columns are those of `rows.jsonl` and `results.json`, in pandas' types that can be missing
    (`string`, `Float64`, `Int64`, `boolean`); lists stay lists. `budget` is a number, and behind it
    `budget_kind` says `tokens`, `fraction` or nothing. Rows of a suite have a column `section`. The
    command, versions and metrics are in `attrs`.

    Args:
        folder: that `transfer eval --out` wrote.
        what: of it.

    Raises:
        UserError: the folder holds no finished evaluation, or one that was changed since; or pandas
            is not installed.
    """
    pandas, folder = _pandas(), Path(folder)
    results = read_results(folder)
    told = results.summary if what == "summary" else list(_rows(folder, results))
    names = list(dict.fromkeys(name for row in told for name in row))
    scores = {*results.metrics, "mean", "low", "high"}
    columns = {}
    for name in names:
        values = [row.get(name) for row in told]
        columns[name] = _column(pandas, name, values, name in scores or name[:6] == "delta_")
        if name == "budget":
            columns["budget_kind"] = pandas.array([*map(_kind, values)], dtype=_TEXT)
    frame = pandas.DataFrame(columns)
    frame.attrs = {name: _plain(getattr(results, name)) for name in _ABOUT}
    frame.attrs["versions"] = {**results.versions, **results.computed}
    return frame


def _pandas() -> Any:
    try:
        import pandas  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "results as tables need pandas; pip install namm-transfer[pandas]"
        ) from error
    return pandas


def _rows(folder: Path, results: Results) -> Iterator[Row]:
    """The rows of a run; a suite has those of its sections."""
    if results.kind != SUITE:
        yield from results.rows
        return
    for path in sorted(folder.rglob(RESULTS_FILE)):
        section = path.parent.relative_to(folder).as_posix()
        if section != ".":
            for row in read_results(path.parent).rows:
                yield {"section": section, **row}


def _column(pandas: Any, name: str, values: Sequence[Any], is_score: bool) -> Any:
    kind = _NUMBER if is_score else _TYPES.get(name) or _kind_of(values)
    if kind is None and name in {*ROW_FIELDS, *SUMMARY_FIELDS}:
        kind = _NUMBER
    if kind is None:
        return pandas.Series(values, dtype=object)
    convert = _CONVERT.get(kind, lambda value: value)
    return pandas.array([None if each is None else convert(each) for each in values], dtype=kind)


_CONVERT: Mapping[str, Callable[[Any], Any]] = {_TEXT: str, _NUMBER: float}


def _kind_of(values: Sequence[Any]) -> str | None:
    """The type that all have; None: none in particular."""
    found = {type(value) for value in values if value is not None}
    kinds = {_TEXT: {str}, _TRUTH: {bool}, _WHOLE: {int}, _NUMBER: {int, float}}
    return next((kind for kind, types in kinds.items() if found and found <= types), None)


def _kind(budget: int | float | None) -> str | None:
    """How a budget is meant: 1 is one token, and 1.0 all of them."""
    return None if budget is None else "tokens" if isinstance(budget, int) else "fraction"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
