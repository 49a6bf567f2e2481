"""A task of your own in words: a text, questions about it, and how a reply is scored.

python examples/add_reading_task.py MODEL
transfer eval language --model smollm2-135m --task add_reading_task:Opening --budget 0.25
"""

import sys

from rich.console import Console

from transfer import register
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.layouts import tables
from transfer.evaluation.options import ContenderOptions
from transfer.evaluation.runner import evaluate
from transfer.evaluation.text_benchmark import TextBenchmark
from transfer.tasks.prose import sentences
from transfer.tasks.reading import ReadTask, Sample, contains

HOURS = {"library": "nine", "museum": "ten", "bakery": "six"}


class OpeningHours(ReadTask):
    """Of each house, the hour it opens; all are told in one text, which is read once."""

    name, new_tokens = "opening", 6

    def samples(self, data, most=None):
        """One for each house; `context` is read before `question` is known."""
        told = [f"The {house} opens at {hour}." for house, hour in HOURS.items()]
        text = "\n".join([*told, *sentences()[:20], ""])
        for house, hour in list(HOURS.items())[:most]:
            yield Sample(house, text, "Once more: ", (hour,), f"The {house} opens at")

    def score(self, reply, sample):
        """From 0 to 1."""
        return float(contains(reply, sample.answers[0]))


class Opening(TextBenchmark):
    """What `--task` names: a benchmark with the task in it."""

    def tasks_of(self, name):
        """The tasks that a name stands for."""
        return [OpeningHours()]


if __name__ == "__main__":
    register("benchmark", "opening-hours", Opening)
    options = ContenderOptions(policy=("namm", "h2o"), budget=(0.25,), update_interval=64)
    config = LanguageEval(
        model=sys.argv[1], task=("opening-hours",), question=("hidden", "seen"), contenders=options
    )
    Console(width=100).print(tables(evaluate(config)))
