"""What the short help of each command shows: the options people use, and lines to begin with.

Commands and kinds that are not here show all of their options.
"""

#: What `transfer` alone proposes.
FIRST = (
    "transfer plan --model llama-3-70b --context 128k",
    "transfer eval --model llama-recall --policy namm h2o recency --documents 50",
    "transfer eval --model decision-transformer --episodes 4 --out hopper",
)
#: Command and kind -> options of the short help; the others are only named there.
USED = {
    "eval language": "model task data length documents policy namm budget update_interval out json",
    "eval video": "model task data frames questions policy namm budget update_interval out json",
    "eval control": "model env memory episodes policy namm budget update_interval video out json",
    "eval suite": "suite namm equal section quick documents episodes out json",
    "pretrain decision-transformer": "dataset out env targets hidden layers context steps seed",
    "evolve": "out models tasks init resume replay generations features scorer budget "
    "update_interval",
    "record": "out models tasks data lengths documents env seed",
    "calibrate": "model kept policy text task length documents out",
    "collect": "out env episodes skilled format steps seed",
    "plan": "model context budget policy batch dtype devices json",
    "inspect video": "video model question policy namm budget frames out",
    "inspect language": "model text policy namm budget length out",
    "inspect control": "model env policy namm budget max_steps out",
}
#: Command and kind -> lines that work, with files of one's own where they name some.
EXAMPLES = {
    "eval": (
        "transfer eval --model llama-recall --budget 24 --documents 50",
        "transfer eval --model llava-next-video --questions 40 --out video",
        "transfer eval --model decision-transformer --env hopper --episodes 4",
        "transfer eval --suite zero-shot --quick",
    ),
    "eval language": (
        "transfer eval language --model llama-recall --budget 24 48 --documents 50",
        "transfer eval language --model smollm2-135m --task needle --length 1024",
        "transfer eval language --model ./my-llama --task mine.jsonl --policy namm h2o",
    ),
    "eval video": (
        "transfer eval video --model llava-next-video --questions 40 --out video",
        "transfer eval video --model ./my-llava --task mlvu --data ./MLVU --frames 32",
    ),
    "eval control": (
        "transfer eval control --model decision-transformer --env hopper --episodes 4",
        "transfer eval --model decision-transformer-tmaze-none --env tmaze:length=200",
    ),
    "eval suite": (
        "transfer eval suite --quick --out suite",
        "transfer eval suite --namm ./my-namm --section language --equal held",
    ),
    "pretrain": (
        "transfer pretrain recall --out my-llama --scale 0.1",
        "transfer pretrain decision-transformer --dataset hopper-medium-v2 --out dt",
    ),
    "pretrain recall": ("transfer pretrain recall --out my-llama --arch llama --scale 0.1",),
    "pretrain decision-transformer": (
        "transfer pretrain decision-transformer --dataset hopper-medium-v2 --out dt",
        "transfer pretrain decision-transformer --dataset a.hdf5 --env tmaze --out dt",
    ),
    "pretrain video-llava": ("transfer pretrain video-llava --out my-llava --scale 0.1",),
    "evolve": (
        "transfer evolve --out my-namm --tasks recall --generations 20",
        "transfer evolve --out my-namm --tasks recall --generations 40 --resume",
        "transfer eval --model llama-recall --policy namm --namm my-namm/namm",
    ),
    "record": (
        "transfer record --out records --documents 4",
        "transfer evolve --out my-namm --replay records --tasks recall",
    ),
    "calibrate": (
        "transfer calibrate --model llama-recall --task recall --kept 0.25 --length 256",
        "transfer eval --model llama-recall --threshold threshold.json",
    ),
    "collect": (
        "transfer collect --env tmaze:length=50 --episodes 200 --out maze.hdf5",
        "transfer collect --env hopper --out hopper-data",
    ),
    "get": ("transfer get", "transfer get smollm2-135m"),
    "plan": (
        "transfer plan --model llama-3-70b --context 128k",
        "transfer plan --model gemma-3-27b --context 32k --budget 0.1 --devices 2",
    ),
    "inspect": (
        "transfer inspect --video holiday.mp4 --question 'What happens?'",
        "transfer inspect --model llama-recall --out kept.html",
        "transfer inspect --model decision-transformer --max-steps 60",
    ),
    "inspect language": (
        "transfer inspect language --model llama-recall",
        "transfer inspect language --model smollm2-135m --text story.txt --budget 64",
    ),
    "inspect video": ("transfer inspect video --video holiday.mp4 --budget 0.1 --out kept.png",),
    "inspect control": (
        "transfer inspect control --model decision-transformer --max-steps 60",
        "transfer inspect control --model decision-transformer --policy h2o --budget 12",
    ),
    "inspect cues": ("transfer inspect cues --model decision-transformer-tmaze-none",),
    "import": (
        "transfer import ckpt.pt my-namm",
        "transfer import dt.pt my-dt --env hopper --quality medium",
    ),
    "report": ("transfer report results", "transfer report results another --out both.html"),
    "leaderboard": ("transfer leaderboard", "transfer leaderboard --out leaderboard.html"),
    "doctor": ("transfer doctor", "transfer doctor --model llama-recall"),
}
