"""Benchmarks of questions about videos, by the names that `--task` takes."""

from transfer.tasks.video.egoschema import EgoSchema
from transfer.tasks.video.jsonl import OwnQuestions
from transfer.tasks.video.longvideobench import LongVideoBench
from transfer.tasks.video.lvbench import LVBench
from transfer.tasks.video.mlvu import MLVU
from transfer.tasks.video.mvbench import MVBench
from transfer.tasks.video.next_qa import NextQA
from transfer.tasks.video.streamingbench import StreamingBench
from transfer.tasks.video.video_mme import VideoMME
from transfer.tasks.video_prompts import VideoTask
from transfer.tasks.video_recall import VideoRecall

VIDEO_TASKS: dict[str, VideoTask] = {
    benchmark.name: benchmark
    for benchmark in (
        VideoRecall(),
        VideoRecall("video-recall-letters", lettered=True),
        VideoRecall("video-recall-long", frames=128, eventful=0.25),
        LongVideoBench(),
        LongVideoBench("longvideobench-no-subtitles", subtitles=False),
        MLVU(),
        VideoMME(),
        VideoMME("video-mme-subtitles", subtitles=True),
        NextQA(),
        EgoSchema(),
        MVBench(),
        LVBench(),
        StreamingBench(),
        StreamingBench("streamingbench-60s", context=60),
        StreamingBench("streamingbench-omni", part="omni"),
        StreamingBench("streamingbench-sqa", part="sqa"),
        OwnQuestions(),
    )
}
