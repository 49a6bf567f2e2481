"""A task of your own: twice as many facts as in the recall task, two of which are asked about.

python examples/add_benchmark.py
transfer eval language --model llama-recall --task add_benchmark:ManyFacts --documents 50
"""

from rich.console import Console

from transfer import register
from transfer.evaluation.language import LanguageEval
from transfer.evaluation.language_benchmark import LanguageBenchmark
from transfer.evaluation.layouts import tables
from transfer.evaluation.options import ContenderOptions
from transfer.evaluation.runner import evaluate
from transfer.tasks.recall import RecallTask, make_batch


class ManyFacts(LanguageBenchmark):
    """Override `maker` for documents that are made, `questions` for a list of your own."""

    def maker(self, task):
        """What makes documents of so many tokens, one for each seed, and marks the answers."""
        facts = RecallTask(facts=(16, 20), questions=2)
        return lambda length, seeds: make_batch(facts, length, seeds, self.says)


if __name__ == "__main__":
    register("benchmark", "many-facts", ManyFacts)
    options = ContenderOptions(policy=("namm", "h2o"), budget=(64,), update_interval=32)
    config = LanguageEval(
        model="llama-recall", task=("many-facts",), documents=20, contenders=options
    )
    Console(width=100).print(tables(evaluate(config)))
