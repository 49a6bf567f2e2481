"""What a NAMM without a budget holds: only running it tells, and rules are to hold as much."""

import sys
from dataclasses import replace
from statistics import fmean
from typing import Any

from transfer.errors import UserError
from transfer.evaluation.benchmark import Row
from transfer.evaluation.contenders import Spelling, is_unbounded_namm
from transfer.evaluation.options import ContenderOptions, EvalConfig, MeasuredOptions
from transfer.evaluation.worker import BlockWorker, Job

#: The field of the rows that says it.
_FIELDS = {"held": "held_mean", "peak": "held_peak"}


def measured(config: EvalConfig) -> EvalConfig:
    """The same with what the first NAMM holds, where that has to be equal and no budget says it.

    Raises:
        UserError: as `BlockWorker`, or every item failed.
    """
    options: Any = getattr(config, "contenders", None)
    if not isinstance(options, ContenderOptions) or options.equal_in not in _FIELDS:
        return config
    spelled = (Spelling.of("namm" if name == "all" else name) for name in options.policy)
    first = next((one for one in spelled if one.policy == "namm" and not one.kind), None)
    budgets = (
        (first.settings["budget"],) if first and "budget" in first.settings else options.budget
    )
    if first is None or None not in budgets:
        return config
    alone = replace(
        options, policy=(first.text,), namm=options.namm[:1], budget=(None,), equal=None
    )
    rows = _rows(replace(config, contenders=alone))
    goal = fmean(row[_FIELDS[options.equal_in]] for row in rows)
    lengths = tuple(row["tokens"] for row in rows)
    told = MeasuredOptions(**vars(options), goal=goal, lengths=lengths)
    return replace(config, contenders=told)


def _rows(config: EvalConfig) -> list[Row]:
    """Those of the first NAMM without a budget, in every block, that did not fail."""
    worker = BlockWorker(config)
    try:
        namms = (n for n, one in enumerate(worker.contenders) if is_unbounded_namm(one))
        place = next(namms)
        print(
            f"first, what {worker.contenders[place].name} holds without a budget", file=sys.stderr
        )
        jobs = (Job(block, (place,)) for block in range(len(worker.blocks)))
        rows = [row for job in jobs for row in worker.stream(job)]
    finally:
        worker.benchmark.close()
    whole = [row for row in rows if row["failure"] is None]
    if not whole:
        name, reason = rows[0]["policy"], rows[0]["failure"]
        raise UserError(f"{name} failed at every item ({reason}); nothing can be equal to it")
    return whole
