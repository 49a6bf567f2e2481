"""LongBench-E: 13 of LongBench's tasks with about as many records of each length."""

from collections.abc import Mapping

from transfer.tasks.benchmarks.data import Record
from transfer.tasks.benchmarks.longbench import LongBench


class LongBenchE(LongBench):
    """One of the tasks; scores are also reported by the number of words in the record."""

    family = "longbench-e"
    ending = "_e"

    def groups(self, record: Record) -> Mapping[str, str]:
        """The authors' kind of length, each without its upper bound."""
        length = record.count("length")
        return {"length": "0-4k" if length < 4000 else "4-8k" if length < 8000 else "8k+"}


TASKS = {
    task.name: task
    for task in map(
        LongBenchE,
        (
            "qasper",
            "multifieldqa_en",
            "hotpotqa",
            "2wikimqa",
            "gov_report",
            "multi_news",
            "trec",
            "triviaqa",
            "samsum",
            "passage_count",
            "passage_retrieval_en",
            "lcc",
            "repobench-p",
        ),
    )
}
