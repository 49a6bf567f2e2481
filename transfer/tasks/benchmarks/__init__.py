"""Benchmarks of questions about videos, by the names that `--task` takes."""

from transfer.tasks.benchmarks.egoschema import EgoSchema
from transfer.tasks.benchmarks.jsonl import OwnQuestions
from transfer.tasks.benchmarks.longvideobench import LongVideoBench
from transfer.tasks.benchmarks.mlvu import MLVU
from transfer.tasks.benchmarks.mvbench import MVBench
from transfer.tasks.benchmarks.next_qa import NextQA
from transfer.tasks.benchmarks.video_mme import VideoMME
from transfer.tasks.video_prompts import Benchmark
from transfer.tasks.video_recall import VideoRecall

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        VideoRecall(),
        LongVideoBench(),
        LongVideoBench("longvideobench-no-subtitles", subtitles=False),
        MLVU(),
        VideoMME(),
        VideoMME("video-mme-subtitles", subtitles=True),
        NextQA(),
        EgoSchema(),
        MVBench(),
        OwnQuestions(),
    )
}
