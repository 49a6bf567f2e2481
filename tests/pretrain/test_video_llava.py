import itertools
import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.progress import Progress
from safetensors.torch import load_file

from transfer.adapters.preprocessing import load_preprocessing
from transfer.adapters.video_model import load_video_model
from transfer.attachment.memory import attach
from transfer.cli import main
from transfer.errors import UserError
from transfer.pretrain.video_llava import (
    VideoPretrainConfig,
    data,
    pool,
    pretrain_video,
    train,
    vision,
)
from transfer.pretrain.video_llava import config as options
from transfer.pretrain.video_llava.card import Scored, _cells, score_questions
from transfer.pretrain.video_llava.config import Stage
from transfer.pretrain.video_llava.data import ANSWERS, HARD, Packer, normalized, read_back
from transfer.pretrain.video_llava.forms import PLAIN_FORMS, SYSTEM_FORMS, put
from transfer.pretrain.video_llava.guidance import LAYERS, LOOKS, HalfwayReader, look
from transfer.pretrain.video_llava.model import new_model, new_tokenizer, save_processor
from transfer.pretrain.video_llava.pool import Pool, make_pool
from transfer.pretrain.video_llava.train import VideoLesson, read_videos
from transfer.pretrain.video_llava.vision import make_crowd, train_vision
from transfer.tasks.base import FIRST_TRAINING_SEED
from transfer.tasks.video_drawing import COLORS, SHAPES, Flash, decode, draw, encode
from transfer.tasks.video_recall import (
    KINDS,
    RecallQuestion,
    VideoRecall,
    all_questions,
    make_flashes,
    make_video,
    one_of_each,
)
from transfer.tasks.video_records import LETTERS, VIDEO, Prompt

STAGES = (Stage((5,), 3, 4, tokens=160), Stage((5, 8), 4, 3, tokens=256, mixes=True, hard=3.0))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(options, "STAGES", STAGES)
    monkeypatch.setattr(train, "_VISION_STEPS", 2)
    monkeypatch.setattr(train, "_VISION_VIDEOS", 1)
    # Two spin beside other tests; where the number may matter it is set back.
    monkeypatch.setattr(train, "_THREADS", 1)


@pytest.fixture
def config(tmp_path):
    return VideoPretrainConfig(tmp_path / "tiny", save_every=2, report_videos=1)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Tokenizer and folder of a model that knows nothing."""
    folder, tokenizer = tmp_path_factory.mktemp("untrained"), new_tokenizer()
    new_model(tokenizer, 0).save_pretrained(folder)
    save_processor(folder, tokenizer)
    return tokenizer, folder


@pytest.fixture(scope="module")
def shipped():
    return load_video_model("llava-next-video")


def records(folder):
    found = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if key != "seconds"} for one in found]


def assert_same_run(one, other):
    assert records(one) == records(other)
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def stop_at(monkeypatch, step):
    """Interrupt the run before this step."""
    update = VideoLesson.update

    def interrupted(self, now):
        if now == step:
            raise KeyboardInterrupt
        return update(self, now)

    monkeypatch.setattr(VideoLesson, "update", interrupted)


def test_a_run_leaves_a_loadable_model_a_log_and_a_card(config):
    model = pretrain_video(config)
    names = {path.name for path in config.out.iterdir()}
    assert names >= {
        "CARD.md",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.jsonl",
        "video_preprocessor_config.json",
    }
    assert "training_state.pt" not in names
    assert [record["step"] for record in records(config.out)] == [0, 2, 3, 4, 6, 7]
    stored = load_file(config.out / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    loaded = load_video_model(config.out, dtype=torch.float32)
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
    card = (config.out / "CARD.md").read_text()
    assert "transfer pretrain video-llava --out tiny --save-every 2 --report-videos 1" in card
    told = " ".join(card.split())
    assert "3 steps of 160 video tokens or so, of 4 videos of 5 frames each," in told
    assert told.count("of before, after, count 3 times as many as of other kinds") == 1
    assert str(config.out.parent) not in card
    assert all(card.count(f"\n| {kind} | ") == 3 for kind in KINDS)
    with pytest.raises(UserError, match="holds a finished model"):
        pretrain_video(config)


def test_a_stopped_run_ends_with_the_same_bits(config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "write_card", lambda *_: None)
    monkeypatch.setattr(train, "_THREADS", 2)
    pretrain_video(replace(config, out=tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 5)
        pretrain_video(config)
    with pytest.raises(UserError, match="unfinished run with other settings"):
        pretrain_video(replace(config, seed=3))
    pretrain_video(config)
    assert_same_run(config.out, tmp_path / "whole")
    other = replace(config, out=tmp_path / "other", seed=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 1)
        pretrain_video(other)
    assert records(other.out)[0] != records(config.out)[0]


def test_training_leaves_the_global_generator_and_threads_alone(config, monkeypatch):
    monkeypatch.setattr(train, "write_card", lambda *_: None)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.set_num_threads(1)
    pretrain_video(config)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "--scale is 0"),
        ({"lr": -1.0}, "--lr is -1"),
        ({"before_weight": 0.0}, "--before-weight is 0"),
        ({"save_every": 0}, "--save-every is 0"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_bad_settings(config, changes, message):
    with pytest.raises(UserError, match=message):
        replace(config, **changes)


def test_the_command_refuses_in_a_sentence(config, capsys):
    words = ["pretrain", "video-llava", "--out", str(config.out), "--scale", "0"]
    assert main(words) == 2
    assert "--scale is 0.0; use a number above 0" in capsys.readouterr().err


def test_training_never_sees_evaluation_seeds_nor_a_video_in_two_lengths(untrained, monkeypatch):
    seen, eventful = [], []

    def watch(seed, frames, share):
        seen.append(seed)
        eventful.append((frames, share))
        return read_back(seed, frames, share)

    monkeypatch.setattr(pool, "read_back", watch)
    model = load_video_model(untrained[1]).model
    for seed in (0, 1):
        for frames in (5, 8, 40):
            made = make_pool(model, frames, 3, seed, Progress(disable=True))
            assert made.features.shape == (3, 16 * frames, 128)
    assert min(seen) >= FIRST_TRAINING_SEED and len(set(seen)) == len(seen) == 18
    assert Counter(eventful) == {(5, 1.0): 6, (8, 1.0): 6, (40, 1.0): 4, (40, 0.25): 2}
    crowd, made = (np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 16, 2), int)), []
    monkeypatch.setattr(vision, "_crowded", lambda seed: (made.append(seed), crowd)[1])
    make_crowd(1, 3)
    assert made == [2 * FIRST_TRAINING_SEED + index for index in range(3)]


def test_mixed_videos_show_what_their_stories_tell(untrained):
    """Each token says in which video, which frame and which cell it was."""
    stories = [make_flashes(32, np.random.default_rng(seed)) for seed in range(6)]
    where = torch.cartesian_prod(torch.arange(6), torch.arange(32), torch.arange(16))
    made = Pool(32, stories, where.view(6, 512, 3).half())
    told: list[list[Flash]] = []
    packer, batch = Packer(untrained[0]), Packer.batch

    def watch(self, stories, *others):
        told.extend(stories)
        return batch(self, stories, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Packer, "batch", watch)
        early = 0
        for seed, frames in itertools.product(range(5), (8, 32, 128)):
            told.clear()
            _, features = made.mixed(packer, frames, 4, 0.5, np.random.default_rng(seed))
            for story, video in zip(told, features.view(4, frames, 16, 3).long()):
                assert (video[..., 2] == torch.arange(16)).all()
                assert (video[:, :1, :2] == video[..., :2]).all()
                assert 2 <= len(story) == len({flash.color for flash in story})
                shown = {frame: flash for flash in story for frame in flash.frames}
                grey = [at for at in range(frames) if at not in shown]
                [ground] = {video[at, 0, 0].item() for at in grey}
                blank = {at for flash in stories[ground] for at in flash.frames}
                assert blank.isdisjoint(video[grey, 0, 1].tolist())
                for at, flash in shown.items():
                    source = stories[video[at, 0, 0]]
                    [seen] = [one for one in source if video[at, 0, 1].item() in one.frames]
                    assert (seen.color, seen.shape, seen.cell) == (
                        flash.color,
                        flash.shape,
                        flash.cell,
                    )
                early += frames == 128 and max(shown) < 32
    assert 3 <= early <= 17


def blocks_of(tokenizer, batch):
    """Tokens of the first sequence: what stands before the video's end, then of each question."""
    row = batch.ids[0]
    # Where one does not see the one before, another question begins.
    begins = [place for place in range(1, len(row)) if not batch.visible[0, place, place - 1]]
    last = int((row == tokenizer.vocab["<video>"]).nonzero().max()) + 1
    edges = sorted({0, last, *(place for place in begins if place > last), len(row)})
    return [list(range(one, end)) for one, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("seed", range(6))
def test_many_questions_in_a_sequence_equal_asking_each_alone(untrained, seed):
    tokenizer, folder = untrained
    asked = load_video_model(folder, dtype=torch.float32)
    flashes, pixels = read_back(7, 8)
    features = asked.encode(pixels)
    rng = np.random.default_rng(seed)
    batch = Packer(tokenizer, questions=150).batch([flashes], 8, rng, before=float(seed % 2))
    logits = read_videos(asked.model, batch, features.tensor)[0].detach()
    before, *tails = blocks_of(tokenizer, batch)
    assert len(tails) > 1 and batch.ahead[batch.answered].sum() == 2 * (seed % 2)
    for number, tail in enumerate(tails):
        ids = batch.ids[:, before + tail]
        assert batch.positions[0, before + tail].tolist() == list(range(ids.shape[1]))
        embeddings = asked.adapter.embed(ids, features.tensor)
        with torch.no_grad():
            alone = asked.model(inputs_embeds=embeddings).logits[0, -2:]
        torch.testing.assert_close(logits[2 * number : 2 * number + 2], alone, atol=2e-4, rtol=1e-3)
        assert batch.targets[0, tail[-1]] == tokenizer.eos_token_id


def test_targets_are_the_answers(untrained):
    """Of questions in words and with letters: what is said to be right is right."""
    tokenizer, _ = untrained
    flashes = make_flashes(8, np.random.default_rng(1))
    truth = {
        one.text.lower(): one.answer
        for seed in range(400)
        for one in all_questions(flashes, np.random.default_rng(seed))
    }
    tells = {
        one.text.lower(): one.flash
        for seed in range(400)
        for one in all_questions(flashes, np.random.default_rng(seed))
    }
    forms = Counter()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        batch = Packer(tokenizer, questions=400).batch([flashes], 8, rng, before=0.0)
        for tail in blocks_of(tokenizer, batch)[1:]:
            words = tokenizer.convert_ids_to_tokens(batch.ids[0, tail].tolist())
            text, said = " ".join(words), words[-1]
            [question] = [asked for asked in truth if asked in text.lower()]
            [halfway] = [one for one in batch.halfway[0, tail, 2].tolist() if one >= 0]
            assert ANSWERS[halfway] == truth[question]
            # Counted where that word or its letter is next.
            assert batch.halfway[0, tail[-2], 2] == halfway
            told = [one for one in batch.halfway[0, tail, 4].tolist() if one >= 0]
            assert told == [one for one in [tells[question]] if one is not None]
            assert batch.halfway[0, tail[-2], 4] == (told or [-100])[0]
            lettered = said in LETTERS
            # "(B) green" or "B. green" among the options.
            marks = re.findall(rf"{said} [.)] (\w+)", text) if lettered else [said]
            assert marks[-1] == truth[question]
            places = (batch.halfway[0, tail, 3] >= 0).nonzero().flatten().tolist()
            shown = [(LETTERS[batch.halfway[0, tail[at], 3]], words[at]) for at in places]
            marked = [one for one in re.findall(r"([A-E]) [.)] (\w+)", text) if one[1] in ANSWERS]
            assert shown == marked and bool(marked) == lettered
            forms[lettered] += 1
    assert min(forms.values()) > 30


@pytest.mark.parametrize("hard", [1.0, 3.0])
def test_hard_kinds_are_asked_ahead_of_a_video_so_many_times_as_often(untrained, monkeypatch, hard):
    asked = []
    monkeypatch.setattr(
        data, "put", lambda one, *others: (asked.append(one.kind), put(one, *others))[1]
    )
    packer = Packer(untrained[0], questions=0, hard=hard)
    flashes, ahead = make_flashes(32, np.random.default_rng(0)), Counter()
    for seed in range(400):
        asked.clear()
        batch = packer.batch([flashes], 8, np.random.default_rng(seed), before=1.0)
        assert batch.ahead[batch.answered].all()
        ahead[asked[0]] += 1
    weights = {kind: hard if kind in HARD else 1.0 for kind in KINDS}
    expected = [400 * weight / sum(weights.values()) for weight in weights.values()]
    assert [ahead[kind] for kind in weights] == pytest.approx(expected, rel=0.5)


def test_order_marks_the_tokens_that_show_a_flash(untrained):
    flashes = [
        Flash("blue", "ring", 8.0, 8.0, 0, 1),
        Flash("red", "cross", 40.0, 24.0, 2, 2),
        Flash("white", "square", 56.0, 56.0, 5, 1),
    ]
    packer = Packer(untrained[0])
    for before in (0.0, 1.0):
        batch = packer.batch([flashes], 6, np.random.default_rng(0), before)
        video = int((batch.ids[0] == untrained[0].vocab["<video>"]).nonzero()[0])
        places = [video, video + 2 * 16 + 6, video + 3 * 16 + 6, video + 5 * 16 + 15]
        assert (batch.halfway[0, :, 0] != -100).nonzero().flatten().tolist() == places
        # blue is the third color, red the first
        assert batch.halfway[0, places, :2].tolist() == [[0, 0], [3, 1], [3, 1], [1, 2]]


def test_guidance_is_paid_for_knowing_what_came_before(untrained):
    flashes = make_flashes(32, np.random.default_rng(0))
    batch = Packer(untrained[0]).batch([flashes], 32, np.random.default_rng(0))
    reader = HalfwayReader(32)
    hidden = [torch.zeros(1, batch.ids.shape[1], 32) for _ in range(5)]
    sizes = (9, 8, len(ANSWERS), len(LETTERS))
    for head, size in zip(reader.heads, sizes, strict=True):
        torch.nn.init.zeros_(head[1].bias)
        torch.nn.init.eye_(head[1].weight)
        assert head[1].out_features == size
    worst, _ = reader(hidden, batch)
    for number, layer in enumerate(LAYERS):
        shown = batch.halfway[..., number] >= 0
        hidden[layer + 1][shown, batch.halfway[shown][:, number]] = 1.0
    best, right = reader(hidden, batch)
    counts = (batch.halfway[..., :4] >= 0).sum((0, 1)).tolist()
    assert min(counts) > 0 and right == [count for count in counts for _ in range(2)]
    assert best < worst
    assert worst.item() == pytest.approx(sum(map(np.log, sizes)), abs=1e-4)


@pytest.mark.parametrize("before", [0.0, 1.0])
def test_heads_are_told_to_look_at_the_flash_and_the_option(untrained, before):
    """The loss is what the attention of the model itself says, counted by hand."""
    tokenizer, folder = untrained
    model = load_video_model(folder, dtype=torch.float32).model
    model.set_attn_implementation("eager")
    rng, story = np.random.default_rng(3), make_flashes(8, np.random.default_rng(1))
    batch = Packer(tokenizer, questions=300, letters=1.0).batch([story], 8, rng, before)
    letters = torch.tensor(tokenizer.convert_tokens_to_ids(list(LETTERS)))
    inputs = model.get_input_embeddings()(batch.ids)
    mask = torch.where(batch.visible, 0.0, -torch.inf)[:, None]
    with torch.no_grad():
        outputs = model.model.language_model(
            inputs_embeds=inputs,
            position_ids=batch.positions,
            attention_mask=mask,
            output_hidden_states=True,
            output_attentions=True,
        )
        told = look(model, outputs.hidden_states, batch, letters, ahead=2.0)
    lost: dict[int, list[float]] = {layer: [] for layer in LOOKS}
    weights: dict[int, list[float]] = {layer: [] for layer in LOOKS}
    words = tokenizer.convert_ids_to_tokens(batch.ids[0].tolist())
    video = words.index("<video>")
    for tail in blocks_of(tokenizer, batch)[1:]:
        flash, ahead = batch.halfway[0, tail[-2], 4], batch.ahead[0, tail[-2]]
        weight = 2.0 if ahead else 1.0
        if flash >= 0:
            one = story[flash]
            places = [video + 16 * frame + one.cell for frame in one.frames]
            seen = outputs.attentions[LOOKS[0]][0, 0, tail[-2], places].sum()
            lost[LOOKS[0]].append(-seen.log().item())
            weights[LOOKS[0]].append(weight)
        [option] = [
            at + 2
            for at in (range(video) if ahead else tail[:-3])
            if words[at] == words[tail[-1]] and words[at + 1] in (".", ")")
        ]
        lost[LOOKS[1]].append(-outputs.attentions[LOOKS[1]][0, 0, tail[-2], option].log().item())
        weights[LOOKS[1]].append(weight)
    assert min(map(len, lost.values())) > 3
    means = [np.average(lost[layer], weights=weights[layer]) for layer in LOOKS]
    assert told.item() == pytest.approx(sum(means), rel=1e-5)


def test_frames_are_prepared_as_the_processor_files_say(untrained):
    pixels = draw([], 3, np.random.default_rng(0))
    prepared = load_preprocessing(str(untrained[1]))(pixels)
    torch.testing.assert_close(prepared[0], normalized(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "side"),
    # A system's text stands before videos that are asked about afterwards.
    [
        (form, side)
        for side in ("before", "after")
        for form in (None, *PLAIN_FORMS, *(SYSTEM_FORMS if side == "after" else ()))
    ],
    ids=str,
)
def test_prompts_are_those_of_training(untrained, form, side, monkeypatch):
    """What the runner asks is, token by token, what the packer makes of it."""
    tokenizer, folder = untrained
    asked = load_video_model(folder)
    flashes, rng = make_flashes(6, np.random.default_rng(2)), np.random.default_rng(0)
    one = next(all_questions(flashes, rng))
    said = put(one, form, rng)
    text = (said.text + " ", VIDEO) if side == "before" else (VIDEO, said.text)
    prompt = Prompt(text, (said.answer,), said.system, said.prefill)
    ids = asked.prompt_ids(prompt, 6)[0].tolist()
    monkeypatch.setattr(data, "put", lambda *_: said)
    monkeypatch.setattr(data, "_SYSTEM_SHARE", 2.0 * bool(said.system))
    batch = Packer(tokenizer).batch([flashes], 6, rng, before=float(side == "before"))
    before, first, *_ = blocks_of(tokenizer, batch)
    assert ids == batch.ids[0, before + first[:-1]].tolist()
    assert tokenizer.unk_token_id not in ids
    [answer] = asked.chat.encode_answer(said.answer, said.prefill)
    assert answer == batch.ids[0, first[-1]]


def test_a_crowd_is_what_its_labels_say():
    crowd = make_crowd(0, 1)
    assert (crowd.cells[..., 0] > 0).sum(-1).eq(4).all()
    assert crowd.cells.amax((0, 1)).tolist() == [len(COLORS), len(SHAPES)]
    for pixels, cells in zip(crowd.pixels, crowd.cells.tolist()):
        for cell, (color, _) in enumerate(cells):
            row, column = divmod(cell, 4)
            part = pixels[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            bright = part[(part.max(-1).astype(int) - part.min(-1) > 60) | (part.min(-1) > 170)]
            if color:
                assert len(bright) >= 6
                distances = [np.abs(np.median(bright, 0) - one).sum() for one in COLORS.values()]
                assert int(np.argmin(distances)) + 1 == color


def test_vision_learns_colors_before_long(monkeypatch):
    monkeypatch.setattr(vision, "_TOGETHER", 24)
    model = new_model(new_tokenizer(), 0)
    before = model.lm_head.weight.clone()
    color, shape, column = train_vision(model, 0, 80, 12, Progress(disable=True))
    assert torch.equal(model.lm_head.weight, before)
    assert color > 0.4 and column > 0.4 and shape > 1 / 3


def test_the_cells_of_the_card(tmp_path):
    def scored(options, answer, asked, likely, said, blind):
        question = RecallQuestion(
            "id", tmp_path, "which ?", options, options.index(answer), "first", asked=asked
        )
        return Scored(question, likely, said, blind)

    scores = [
        scored(("red", "green"), "red", "before", True, True, False),
        scored(("green", "red", "blue", "white"), "red", "after", False, True, False),
        scored(("red", "blue"), "blue", "after", True, False, True),
        scored(("blue", "white", "cyan", "red"), "red", "after", True, False, False),
    ]
    expected = [3 / 4, 1.0, 2 / 3, 1 / 2, 1 / 4, 3 / 4, 3 / 8]
    assert _cells(scores) == pytest.approx(expected)


def test_the_shipped_model_answers_all_kinds_from_held_out_files(shipped, tmp_path):
    with Progress(disable=True) as progress:
        scores = score_questions(shipped, VideoRecall(videos=8, first=500), tmp_path, progress)
    assert np.mean([one.likely for one in scores]) >= 0.85
    assert np.mean([one.said for one in scores]) >= 0.85
    assert np.mean([one.blind for one in scores]) < 0.5


def test_random_eviction_at_a_quarter_loses_what_the_shipped_model_knows(shipped, tmp_path):
    task, right = VideoRecall(videos=2, first=500), {"full": 0, "random": 0}
    questions, features = task.read(tmp_path), {}
    for policy, budget in (("full", None), ("random", 0.25)):
        with attach(shipped.model, policy, update_interval=64, budget=budget) as memory:
            for question in questions:
                seen = features.setdefault(
                    question.video, shipped.encode(read_back(int(question.video.stem), 32)[1])
                )
                ids = shipped.prompt_ids(task.prompt(question, ()), 32)
                logits = shipped.prefill(ids, seen, memory.new_cache())
                likely = shipped.option_log_likelihoods(logits, None, question.options)
                right[policy] += likely.index(max(likely)) == question.answer
    assert right["full"] - right["random"] >= 0.3 * len(questions)


def test_a_file_encoded_in_another_way_gives_the_same_answers(shipped):
    same, right = [], []
    for seed in range(900, 912):
        flashes, pictures = make_video(seed)
        questions = one_of_each(flashes, np.random.default_rng(seed))
        said = []
        for how in ("h264-18", "h264-28", "vp9"):
            seen = shipped.encode(decode(encode(pictures, how)))
            said.append([])
            for one in questions:
                ids = shipped.prompt_ids(Prompt((VIDEO, "\n" + one.text), one.options), seen)
                logits = shipped.prefill(ids, seen, None)
                scores = shipped.option_log_likelihoods(logits, None, one.options)
                said[-1].append(scores.index(max(scores)))
        same += [one == other for how in said[1:] for one, other in zip(said[0], how)]
        right.append(np.array(said) == [one.options.index(one.answer) for one in questions])
    assert np.mean(same) >= 0.95
    assert np.mean(right, (0, 2)).min() >= 0.85
