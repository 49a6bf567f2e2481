"""What a NAMM without a budget holds: only running it tells, and rules are to hold as much."""

import sys
from dataclasses import replace
from statistics import fmean
from typing import Any

from transfer.errors import UserError
from transfer.evaluation.benchmark import Row
from transfer.evaluation.contenders import Spelling, plan
from transfer.evaluation.options import ContenderOptions, EvalConfig, MeasuredOptions
from transfer.evaluation.threshold import read_threshold
from transfer.evaluation.worker import BlockWorker, Job

NAMM = "namm"

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
    alone = _namms_of(options)
    namms = plan(alone) if alone.policy else []
    names = [one.name for one in namms if one.key == (namms[0].name, None)]
    if not names:
        return config
    rows = _rows(replace(config, contenders=alone), names[0])
    goal = fmean(row[_FIELDS[options.equal_in]] for row in rows)
    lengths = tuple(row["tokens"] for row in rows)
    told = MeasuredOptions(**vars(options), goal=goal, lengths=lengths)
    return replace(config, contenders=told)


def _namms_of(options: ContenderOptions) -> ContenderOptions:
    """Those that others may be equal to, and how they prune."""
    spelled = [Spelling.of("namm" if name == "all" else name) for name in options.policy]
    names = tuple(one.text for one in spelled if one.policy == NAMM and not one.kind)
    files = tuple(
        path
        for path in options.threshold
        if Spelling.of(read_threshold(path).policy).policy == NAMM
    )
    return replace(options, policy=names, threshold=files, equal=None)


def _rows(config: EvalConfig, name: str) -> list[Row]:
    """Those of a NAMM without a budget, in every block, that did not fail."""
    print(f"first, what {name} holds without a budget", file=sys.stderr)
    worker = BlockWorker(config)
    try:
        place = [one.key for one in worker.contenders].index((name, None))
        jobs = (Job(block, (place,)) for block in range(len(worker.blocks)))
        rows = [row for job in jobs for row in worker.stream(job)]
    finally:
        worker.benchmark.close()
    whole = [row for row in rows if row["failure"] is None]
    if not whole:
        raise UserError(f"{name} failed at every item ({rows[0]['failure']}); nothing can equal it")
    return whole
