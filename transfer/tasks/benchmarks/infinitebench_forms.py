"""How InfiniteBench asks, by the prompts that its authors use for open models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transfer.tasks.benchmarks import infinitebench_scores as scores

_CHOICES = "\nA. {options[0]}\nB. {options[1]}\nC. {options[2]}\nD. {options[3]}\n\n"


@dataclass(frozen=True)
class Form:
    """How a task asks, and how its replies are scored.

    Attributes:
        new_tokens: the most a reply may have.
        score: of a reply and a record's answers.
        context: template of what stands before the question.
        question: template of what comes after it.
        prefix: template of the beginning of the reply.
    """

    new_tokens: int
    score: Callable[[str, Sequence[str]], float]
    context: str
    question: str
    prefix: str = ""


FORMS = {
    "passkey": Form(
        6,
        scores.first_integer,
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize"
        " it. I will quiz you about the important information.\n\n{context}",
        "\n\n{input}\n\n",
        "The pass key is",
    ),
    "number_string": Form(
        12,
        scores.first_integer,
        "There is an important info hidden inside a lot of irrelevant text. Find it. I will quiz"
        " you about the important information there.\n\n{context}",
        "\n\n{input}\n\n",
        "The sequence of digits is",
    ),
    "kv_retrieval": Form(
        50,
        scores.word_within,
        "Extract the value corresponding to the specified key in the JSON object below."
        "\n\n{context}",
        "\n\n{input}",
    ),
    "longbook_sum_eng": Form(
        1200,
        scores.rouge_l_sum,
        "Summarize the book below.\n\n{context}",
        "\n\n",
        "Summary:",
    ),
    "longbook_choice_eng": Form(
        40,
        scores.chosen,
        "Read the book and answer the question.\n\n{context}",
        "\n\nQuestion: {input}" + _CHOICES,
        "The letter of the correct answer is",
    ),
    "longbook_qa_eng": Form(
        40,
        scores.best_word_f1,
        "Read the book and answer the question. Be very concise in your answer.\n\n{context}",
        "\n\nQuestion: {input}\n",
        "Answer:",
    ),
    "longbook_qa_chn": Form(
        40,
        scores.best_character_f1,
        "阅读以下书籍然后回答问题。\n\n{context}",
        "\n\n问题：{input}\n",
        "答案：",
    ),
    "longdialogue_qa_eng": Form(
        40,
        scores.name_within,
        "Below is a dialogue script where one random occurrence of a character name is replaced"
        ' with "$$MASK$$", and you should try to guess who that character is.\n\n{context}',
        "\n\n",
        "The name that has been replaced with $$MASK$$ is likely",
    ),
    "math_find": Form(
        3,
        scores.first_number,
        "What is {asked} in the following list?\n\n{context}",
        "\n\n{input}",
    ),
    "math_calc": Form(
        30_000,
        scores.right_beginning,
        "Let us calculate the intermediate values of an expression.\n\n"
        "Expression: 1 + 3 + 4\nValues: [1, 4, 8]\n\n"
        "Expression: 8 - 3 + 2 - 4\nValues: [8, 5, 7, 3]\n\n"
        "Expression: {context}",
        "\n",
        "Values:",
    ),
    "code_run": Form(
        5,
        scores.last_integer,
        "There is a function called {function} in the following Python code.\n\n{context}",
        "\n\nPlease compute the exact value of {call}. ",
        "The value of {call} is",
    ),
    "code_debug": Form(
        5,
        scores.function_chosen,
        "Following is a Python code where exactly one of the functions/methods has a deliberate"
        " error that makes it crash.\n\n{context}",
        "\n\nOptions:" + _CHOICES,
        "The correct option is:",
    ),
}
