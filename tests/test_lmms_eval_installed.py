"""The plug-in in lmms-eval itself, where that is installed; `test_lmms_eval` does without."""

import json

import pytest
import tiny_video
import torch

from transfer.adapters.video_model import load_video_model
from transfer.attachment.memory import Memory
from transfer.cache.policy import Pruning
from transfer.policies import get_policy
from transfer.tasks.video_records import VIDEO, Prompt
from transfer.video.frames import read_clip

evaluator = pytest.importorskip(
    "lmms_eval.evaluator", reason="lmms-eval is not installed (extra lmms-eval)"
)
TASK = """
task: tiny_videos
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: "answer"
generation_kwargs:
  max_new_tokens: 3
  temperature: 0
  do_sample: false
process_results: !function utils.score
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
UTILS = """
def visual(doc):
    return [doc["video"]]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def score(doc, results):
    return {"acc": float(results[0] == doc["answer"])}
"""
QUESTION, NEW = "what color is the square ?", 3
#: A video of 8 frames has 128 tokens.
BUDGET, INTERVAL, FRAMES = 24, 16, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lmms")
    tiny_video.save_llava(path / "model")
    words = f"{tiny_video.WORDS} {' '.join(f'word{number}' for number in range(64))}"
    tiny_video.tokenizer(words).save_pretrained(path / "model")
    for number in range(3):
        tiny_video.write_video(path / f"{number}.mp4", 10 + 5 * number)
    return path


def replies_of(folder, pruning):
    """Of our own way to ask."""
    video = load_video_model(str(folder / "model"))
    found = []
    with Memory(video.adapter, pruning) as memory, torch.no_grad():
        for number in range(3):
            clip = read_clip(folder / f"{number}.mp4", FRAMES)
            ids = video.prompt_ids(Prompt((VIDEO, "\n" + QUESTION), ()), FRAMES)
            cache = memory.new_cache()
            logits = video.prefill(ids, video.encode(clip), cache)
            found.append(video.generate(logits, cache, NEW))
    return found


def test_the_entry_point_gives_a_whole_model():
    from lmms_eval.api.model import lmms
    from lmms_eval.models import get_model

    model = get_model("transfer")
    assert issubclass(model, lmms) and not model.__abstractmethods__ and model.is_simple


def test_a_task_is_answered_with_the_pruned_cache(folder, tmp_path):
    from lmms_eval.tasks import TaskManager

    expected = replies_of(folder, Pruning(get_policy("h2o"), INTERVAL, BUDGET))
    assert expected != replies_of(folder, Pruning(get_policy("recency"), INTERVAL, BUDGET))
    answers = [expected[0], "another answer", expected[2]]
    lines = [
        {"video": str(folder / f"{number}.mp4"), "question": QUESTION, "answer": answer}
        for number, answer in enumerate(answers)
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "tiny_videos.yaml").write_text(TASK.format(questions=questions))
    (tmp_path / "utils.py").write_text(UTILS)
    settings = f"budget={BUDGET},update_interval={INTERVAL},frames={FRAMES}"
    results = evaluator.simple_evaluate(
        model="transfer",
        model_args=f"pretrained={folder / 'model'},policy=h2o,{settings}",
        tasks=["tiny_videos"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        batch_size=1,
    )
    assert results["results"]["tiny_videos"]["acc,none"] == pytest.approx(2 / 3)
    samples = sorted(results["samples"]["tiny_videos"], key=lambda sample: sample["doc_id"])
    assert [sample["filtered_resps"][0] for sample in samples] == expected
