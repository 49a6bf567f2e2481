"""Benchmarks of the field, by their authors' rules: a file each, and what they share.

A file holds `TASKS`, its tasks by their whole names; the name of a family, such as `longbench`,
stands for all of them, `longbench/qasper` for one.
"""

from collections.abc import Mapping
from importlib import import_module

from transfer.errors import unknown_name
from transfer.tasks.reading import ReadingTask

FAMILIES = (
    "babilong",
    "choubun",
    "infinitebench",
    "longbench",
    "longbench-e",
    "longbench-v2",
    "niah",
    "ruler",
)


def reading_tasks(name: str) -> list[ReadingTask]:
    """The tasks that a name stands for: those of a family, or one of them.

    Raises:
        UserError: there is no such task.
    """
    family, _, task = name.partition("/")
    if family not in FAMILIES:
        raise unknown_name("task", name, FAMILIES)
    module = import_module(f"transfer.tasks.benchmarks.{family.replace('-', '_')}")
    tasks: Mapping[str, ReadingTask] = module.TASKS
    if not task:
        return list(tasks.values())
    if name not in tasks:
        raise unknown_name("task", name, tasks)
    return [tasks[name]]
