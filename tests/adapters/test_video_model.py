"""A video model is loaded from any layout, and asked as the official processor would ask."""

import json
import runpy
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_video
import torch
from tiny_video import picture, save_llava
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from transfer import attach
from transfer.adapters import kinds, placement
from transfer.adapters.video_model import (
    FRAME,
    VIDEO,
    load_video_model,
)
from transfer.doctor import examine
from transfer.errors import UserError
from transfer.tasks.video_records import Prompt
from transfer.video.frames import read_clip

QUESTION = "what color is the square ?"
ASKED = Prompt((VIDEO, f"\n{QUESTION}"), answers=("A", "B", "red green"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return load_video_model(folder)


@pytest.fixture(scope="module")
def features(model):
    return model.encode(torch.stack([torch.from_numpy(picture(i)) for i in range(8)]).numpy())


def encoder_outputs(features):
    """As transformers' `forward` and `generate` take them."""
    return {"video": BaseModelOutputWithPooling(pooler_output=features.tensor)}


def full_cache(model):
    return DynamicCache(config=model.adapter.config)


@pytest.mark.parametrize("layout", ["hub", "nested", "old"])
def test_every_layout_gives_the_same(folder, model, features, tmp_path, layout):
    other = load_video_model(save_llava(tmp_path, layout=layout))
    assert other.name == tmp_path.name
    assert not other.model.training
    ids = other.prompt_ids(ASKED, 8)
    assert torch.equal(ids, model.prompt_ids(ASKED, 8))
    clip = read_clip(tiny_video.write_video(tmp_path / "v.mp4", 16), 4)
    ours, theirs = other.encode(clip), model.encode(clip.pixels)
    assert torch.equal(ours.tensor, theirs.tensor)
    assert (ours.frames, ours.tokens) == (4, 64)


def test_the_type_of_the_weights(folder, tmp_path, monkeypatch):
    assert load_video_model(folder, torch.bfloat16).model.dtype == torch.bfloat16
    assert load_video_model(folder, "float64").model.dtype == torch.float64
    save_llava(tmp_path, tiny_video.llava().half())
    monkeypatch.setattr(placement, "_has_arithmetic", lambda half: True)
    assert load_video_model(tmp_path).model.dtype == torch.float16
    monkeypatch.setattr(placement, "_has_arithmetic", lambda half: False)
    assert load_video_model(tmp_path).model.dtype == torch.float32
    assert load_video_model(tmp_path, "float16").model.dtype == torch.float16
    # The ones that ship are stored in half precision and computed in single.
    ships = {"config.json": {"llava-next-video-recall": tmp_path}, "namm.safetensors": {}}
    monkeypatch.setattr(kinds, "shipped", ships.get)
    shipped = load_video_model("llava-next-video")
    assert shipped.model.dtype == torch.float32
    assert shipped.name == "llava-next-video-recall"


# accelerate does not know that parameters have to be placed too
@pytest.mark.filterwarnings("ignore:The following device_map keys do not match")
def test_parts_of_the_model_elsewhere(folder, model, features):
    pytest.importorskip("accelerate")
    parts = ("vision_tower", "multi_modal_projector", "vision_resampler", "image_newline")
    places = {"lm_head": "cpu", **{f"model.{part}": "cpu" for part in parts}}
    places["model.language_model"] = "disk"
    other = load_video_model(folder, device_map=places)
    assert other.model.hf_device_map["model.language_model"] == "disk"
    ids = other.prompt_ids(ASKED, 8)
    found = []
    for each in (other, model):
        with attach(each.model, "recency", update_interval=16, budget=24) as memory:
            cache = memory.new_cache()
            found.append(each.prefill(ids, features, cache))
            assert each.generate(found[-1], cache, 3)
    assert torch.equal(*found)


def test_a_prompt_is_the_checkpoints_chat_template_with_a_token_for_every_feature(model):
    ids = model.prompt_ids(ASKED, 8)
    content = [{"type": "video"}, {"type": "text", "text": QUESTION}]
    text = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=tiny_video.TEMPLATE,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == f"USER: <video>\n{QUESTION} ASSISTANT:"
    expected = model.tokenizer(text.replace("<video>", "<video>" * 16 * 8), return_tensors="pt")
    assert torch.equal(ids, expected.input_ids)
    assert ids[0, 0] == model.tokenizer.bos_token_id
    assert int(model.is_video(ids).sum()) == 128
    assert model.is_video(ids)[0, 2:130].all()


def words(model, prompt, frames=2):
    ids = model.prompt_ids(prompt, frames)[0].tolist()
    return " ".join(model.tokenizer.convert_ids_to_tokens(ids)).replace("<video> " * 16, "[frame] ")


def test_system_prefill_and_the_place_of_the_video(model):
    before = Prompt((f"{QUESTION} ", VIDEO), ("A", "B"), "before the", "Best Option: (")
    assert words(model, before) == (
        "<s> before the USER: what color is the square ? [frame] [frame] ASSISTANT: Best Option: ("
    )
    blind = Prompt((QUESTION,), ("A", "B"))
    assert words(model, blind) == "<s> USER: what color is the square ? ASSISTANT:"


def test_texts_between_frames(model):
    prompt = Prompt((FRAME, " red ", FRAME, f" {QUESTION}"), ("A", "B"))
    assert words(model, prompt) == (
        "<s> USER: [frame] red [frame] what color is the square ? ASSISTANT:"
    )
    with pytest.raises(UserError, match="for 3 frames has 0 parts <video> and 2 parts <frame>"):
        model.prompt_ids(prompt, 3)


def templated(tmp_path, template):
    save_llava(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    return load_video_model(tmp_path)


def test_a_checkpoint_without_a_template_gets_vicunas(tmp_path, model):
    other = templated(tmp_path, None)
    for prompt in (ASKED, Prompt((VIDEO, QUESTION), ("A", "B"), "before the", "Best")):
        assert words(other, prompt) == words(model, prompt)


def test_a_template_for_plain_text_that_knows_no_system(tmp_path):
    template = (
        "{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ '<s>' + m.role.upper() + ': ' + m.content }}{% endfor %} ASSISTANT:"
    )
    prompt = Prompt((VIDEO, f"\n{QUESTION}"), ("A", "B"), system="before the")
    # The system text goes to the user, and there is one <s> only.
    assert words(templated(tmp_path, template), prompt) == (
        "<s> USER: before the [frame] [frame] what color is the square ? ASSISTANT:"
    )


def test_a_template_that_fails_is_named(tmp_path):
    with pytest.raises(UserError, match="chat template fails"):
        templated(tmp_path, "{% for m in messages %}").prompt_ids(ASKED, 2)


def test_a_question_with_the_models_own_token(model):
    with pytest.raises(UserError, match="holds the model's own token <video>"):
        model.prompt_ids(Prompt((VIDEO, " what is <video> ?"), ("A", "B")), 2)


def test_words_that_the_vocabulary_lacks_are_named(model):
    texts = ("what zebra is the zebra ?", "green", "grue")
    assert model.unknown_words(*texts) == ("zebra", "grue")
    assert model.unknown_words(QUESTION, "red") == ()
    knows_all = replace(model, tokenizer=deepcopy(model.tokenizer))
    knows_all.tokenizer.unk_token = None
    assert knows_all.unknown_words(*texts) == ()


def test_a_prompt_beyond_the_positions_says_how_many_frames_fit(model):
    text = len(model.prompt_ids(ASKED, 1)[0]) - 16
    fit = (512 - text) // 16
    assert model.prompt_ids(ASKED, fit).shape == (1, text + 16 * fit)
    with pytest.raises(UserError) as error:
        model.prompt_ids(ASKED, fit + 1)
    assert str(error.value).endswith(f"the model has 512 positions; {fit} frames fit")


def test_prefill_is_the_models_own_forward_pass(model, features):
    ids = model.prompt_ids(ASKED, 8)
    with torch.no_grad():
        stock = model.model(ids, mm_encoder_outputs=encoder_outputs(features)).logits[:, -1]
    assert (model.prefill(ids, features, None) - stock).abs().max() < 1e-5
    for chunk in (None, 50, 7):
        cache = full_cache(model)
        logits = model.prefill(ids, features, cache, chunk)
        assert (logits - stock).abs().max() < 1e-4
        assert cache.get_seq_length() == ids.shape[1]


def test_prefill_does_not_depend_on_the_chunk_when_it_is_pruned(model, features):
    ids = model.prompt_ids(ASKED, 8)
    found = []
    with attach(model.model, "recency", update_interval=16, budget=24) as memory:
        for chunk in (None, 50, 7):
            cache = memory.new_cache()
            found.append(model.prefill(ids, features, cache, chunk))
            assert cache.kept()[0] == [[24 + ids.shape[1] % 16] * 2]
    assert (found[0] - found[1]).abs().max() < 1e-4
    assert (found[0] - found[2]).abs().max() < 1e-4
    assert (found[0] - model.prefill(ids, features, None)).abs().max() > 1e-2


def test_a_prompt_for_other_frames(model, features):
    with pytest.raises(UserError, match="has 64 video tokens and the video 128"):
        model.prefill(model.prompt_ids(ASKED, 4), features, None)


def test_answers_are_cut_into_tokens_as_they_stand_behind_the_prompt(model):
    vocabulary = model.tokenizer.get_vocab()
    assert model.chat.encode_answer("A") == [vocabulary["A"]]
    assert model.chat.encode_answer("red green") == [vocabulary["red"], vocabulary["green"]]
    # "(A" is one unknown word here: the answer alone.
    assert model.chat.encode_answer("A", "Best Option: (") == [vocabulary["A"]]


@pytest.mark.parametrize("policy", [None, "recency"])
def test_likelihoods_of_answers_and_the_cache_after_them(model, features, policy):
    ids = model.prompt_ids(ASKED, 8)
    with attach(
        model.model, policy or "full", update_interval=16, budget=24 if policy else None
    ) as memory:
        cache = memory.new_cache()
        logits = model.prefill(ids, features, cache)
        before = cache.kept(), cache.get_seq_length()
        found = model.option_log_likelihoods(logits, cache, ASKED.answers)
        assert (cache.kept(), cache.get_seq_length()) == before
        again = model.option_log_likelihoods(logits, cache, ASKED.answers)
        longer = memory.new_cache()
        red, green = model.chat.encode_answer("red green")
        model.prefill(ids, features, longer)
        with torch.no_grad():
            after = model.model(torch.tensor([[red]]), cache=longer).logits[0, -1]
    first = logits[0].log_softmax(-1)
    letters = [float(first[model.chat.encode_answer(letter)[0]]) for letter in "AB"]
    word = float(first[red] + after.log_softmax(-1)[green])
    assert found == again == pytest.approx([*letters, word], abs=1e-5)


def test_answers_of_several_tokens_need_a_cache(model, features):
    logits = model.prefill(model.prompt_ids(ASKED, 8), features, None)
    assert len(model.option_log_likelihoods(logits, None, ("A", "B"))) == 2
    with pytest.raises(UserError, match="answers of several tokens need"):
        model.option_log_likelihoods(logits, None, ("A", "red green"))


def test_generation_is_transformers_own(model, features):
    ids = model.prompt_ids(ASKED, 8)
    cache = full_cache(model)
    said = model.generate(model.prefill(ids, features, cache), cache, 12)
    given = encoder_outputs(features)
    out = model.model.generate(
        input_ids=ids, mm_encoder_outputs=given, max_new_tokens=12, do_sample=False
    )
    assert said == model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert said


def test_generation_ends_at_the_end_token(model, features):
    ids, cache = model.prompt_ids(ASKED, 8), full_cache(model)
    logits = model.prefill(ids, features, cache).clone()
    logits[0, model.tokenizer.eos_token_id] = 1e4
    assert model.generate(logits, cache, 12) == ""
    assert cache.get_seq_length() == ids.shape[1]


def test_a_folder_without_the_processors_files(folder, tmp_path):
    tiny_video.llava().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"video_preprocessor_config\.json, preprocessor_config"):
        load_video_model(tmp_path)
    tiny_video.save_files(tmp_path)
    with pytest.raises(UserError, match=r"has no tokenizer \(tokenizer\.json or tokenizer\.model"):
        load_video_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        ("processor_config.json", {"patch_size": 8}, "patches of 8 pixels and .* for 4"),
        (
            "video_preprocessor_config.json",
            {**tiny_video.PICTURES, "crop_size": {"height": 24, "width": 24}},
            r"frames of \(24, 24\) pixels and a vision tower for 32 x 32",
        ),
    ],
)
def test_the_processor_of_another_vision_tower(tmp_path, file, content, cause):
    save_llava(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=cause):
        load_video_model(tmp_path)


def test_models_that_are_none(tmp_path):
    import tiny

    tiny.llama().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a language model \\(llama\\), not a video model"):
        load_video_model(tmp_path)
    with pytest.raises(
        UserError, match=r"^'nobody/nothing' is no shipped model or folder, and its"
    ):
        load_video_model("nobody/nothing")


def test_names_that_are_no_hub_ids_are_not_asked_for(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("asked the network"))
    with pytest.raises(UserError, match="unknown model 'llava-next-vido'; did you mean llava"):
        load_video_model("llava-next-vido")
    with pytest.raises(UserError, match="llama-recall is a language model"):
        load_video_model("llama-recall")


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        ("tokenizer.json", {}, r"tokenizer of .*tokenizer\.json"),
        ("tokenizer_config.json", [], r"tokenizer of .*tokenizer_config\.json"),
        ("config.json", [], r"config\.json is no JSON object"),
        ("processor_config.json", [], r"processor_config\.json is no JSON object"),
        (
            "processor_config.json",
            {"video_processor": []},
            r"config\.json: video_processor is \[\]",
        ),
        ("video_preprocessor_config.json", [], r"video_preprocessor_config\.json is no JSON obj"),
        (
            "video_preprocessor_config.json",
            {**tiny_video.PICTURES, "size": "x"},
            r"video_preprocessor_config\.json: size or crop_size has 'x'; use whole numbers",
        ),
        (
            "video_preprocessor_config.json",
            {**tiny_video.PICTURES, "image_mean": [0.5, 0.5]},
            r"video_preprocessor_config\.json: image_mean is \[0\.5, 0\.5\]; use 3 numbers",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, cause):
    save_llava(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=cause):
        load_video_model(tmp_path)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json; save a model there"):
        load_video_model(tmp_path)


def test_answers_that_cannot_be_told_apart(model):
    model.check_answers(("A", "B", "red green"))
    with pytest.raises(UserError, match="cannot tell the answers 'E', 'F' from others"):
        model.check_answers(("A", "E", "F"))
    with pytest.raises(UserError, match="cannot tell the answers 'red', 'red' from"):
        model.check_answers(("red", "green", "red"))


def test_damaged_weights(tmp_path):
    save_llava(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_video_model(tmp_path)


def test_doctor_checks_a_video_model(folder):
    *_, last = examine(str(folder))
    assert last.ok
    assert "llava_next_video: pruned and exact; 3 of 3 layers" in last.text


def test_the_example(folder, tmp_path, monkeypatch, capsys):
    example = Path(__file__).parents[2] / "examples" / "video_qa.py"
    video = tiny_video.write_video(tmp_path / "v.mp4", 20)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["video_qa.py", str(folder), str(video), *words])
        runpy.run_path(str(example), run_name="__main__")
        return capsys.readouterr()

    said, report, *_ = run(QUESTION, "recency", "0.5", "8").out.splitlines()
    assert set(said.split()) <= set(tiny_video.WORDS.split())
    assert "tokens seen" in report
    assert "100.0% kept" in run(QUESTION, "full", "None", "8").out
    assert "the model does not know 'zebra'" in run("zebra ?", "recency", "64", "8").err
    for words, sentence in (
        ([QUESTION, "h3o"], "error: unknown policy 'h3o'"),
        ([QUESTION, "recency", "abc"], "error: "),
        ([], "BUDGET: a share of the tokens"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            run(*words)
