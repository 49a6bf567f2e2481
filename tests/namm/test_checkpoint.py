import json
import os
import pickle
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from safetensors.torch import load_file, save_file

from transfer.errors import UserError
from transfer.namm import NAMMConfig
from transfer.namm.checkpoint import CONFIG_FILE, HUB_CARD, TENSORS_FILE
from transfer.namm.network import NAMM
from transfer.namm.original import import_original

ORIGINAL = Path(__file__).parents[1] / "data" / "ckpt_hidden1.pt"


SMALL = NAMMConfig(hidden=2, gamma=0.95)


def _namm(config=SMALL, population=1) -> NAMM:
    vector = torch.randn(population, config.size)
    return NAMM(config, vector, torch.rand(17), torch.rand(17) + 0.1)


def _assert_same(first: NAMM, second: NAMM) -> None:
    assert first.config == second.config
    for name in ("vector", "mean", "std"):
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.fixture
def saved(tmp_path) -> Path:
    _namm().save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    package = tmp_path / "package"
    monkeypatch.setattr("transfer.checkpoints.resources.files", lambda name: package)
    _namm().save_pretrained(package / "namm-recall")
    _namm().save_pretrained(package / "vision")
    (package / "a-model").mkdir()
    return package


@pytest.mark.parametrize(
    "config",
    [
        NAMMConfig(),
        NAMMConfig(hidden=16, bias=False),
        NAMMConfig(features="log", scorer="mlp", hidden=5, gamma=0.9999),
    ],
)
@pytest.mark.parametrize("population", [1, 3])
def test_round_trip_is_exact_to_the_bit(tmp_path, config, population):
    namm = _namm(config, population)
    namm.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG_FILE, TENSORS_FILE]
    _assert_same(NAMM.from_pretrained(tmp_path), namm)


def test_saving_again_replaces(saved):
    namm = _namm(NAMMConfig(scorer="mlp", hidden=3))
    namm.save_pretrained(saved)
    _assert_same(NAMM.from_pretrained(saved), namm)


def test_shipped_names_with_and_without_prefix(shipped):
    recall = NAMM.from_pretrained(shipped / "namm-recall")
    _assert_same(NAMM.from_pretrained("recall"), recall)
    _assert_same(NAMM.from_pretrained("namm-recall"), recall)
    _assert_same(NAMM.from_pretrained("vision"), NAMM.from_pretrained(shipped / "vision"))


def test_a_misspelt_name_is_answered_with_the_nearest(shipped):
    with pytest.raises(UserError, match="unknown NAMM 'recal'; did you mean recall"):
        NAMM.from_pretrained("recal")


def test_a_folder_that_is_no_namm_is_named(shipped):
    with pytest.raises(UserError, match=r"a-model/namm.safetensors is missing"):
        NAMM.from_pretrained(shipped / "a-model")


def test_a_file_is_answered_with_the_remedy():
    with pytest.raises(UserError, match=r"is a file; .* `transfer import`"):
        NAMM.from_pretrained(ORIGINAL)


def _drop_config(folder: Path) -> None:
    (folder / CONFIG_FILE).unlink()


def _cut_tensors(folder: Path) -> None:
    path = folder / TENSORS_FILE
    path.write_bytes(path.read_bytes()[:-40])


def _put(**tensors):
    def change(folder: Path) -> None:
        path = folder / TENSORS_FILE
        save_file(load_file(path) | tensors, path)

    return change


def _configure(**fields):
    def change(folder: Path) -> None:
        path = folder / CONFIG_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop_config, "cannot read .*config.json"),
        (_cut_tensors, "cut or damaged"),
        (_put(vector=torch.full((1, 332), torch.nan)), "mine: the NAMM's vector holds NaN"),
        (_put(vector=torch.zeros(1, 331)), "vector has 331 numbers, its configuration needs 332"),
        (_put(extra=torch.zeros(1)), "holds extra, mean, std, vector instead of"),
        (_put(mean=torch.zeros(3)), "mean has 3 numbers"),
        (_put(vector=torch.zeros(0, 332)), r"a vector of shape \(0, 332\)"),
        (_put(vector=torch.zeros(0)), r"a vector of shape \(0,\)"),
        (_put(vector=torch.zeros(1, 332, dtype=torch.int64)), "and type int64, not of floating"),
        (_put(std=torch.full((17,), -1.0)), "std holds a negative number"),
        (_put(mean=torch.full((17,), torch.inf)), "mean holds NaN or infinity"),
        (_put(vector=torch.full((1, 332), 1e300, dtype=torch.float64)), "vector holds NaN or inf"),
        (_configure(hidden=10**12), "NAMM hidden width 1000000000000"),
        (_configure(gamma=float("nan")), "NAMM gamma nan"),
        (_configure(features="brought:X"), "names 'brought:X', and no module brought is installed"),
        (_configure(hiden=3), "unknown field in config.json 'hiden'; did you mean hidden"),
        (_configure(hidden=3), "vector has 332 numbers, its configuration needs 460"),
        (
            _configure(features="wavelet"),
            "mine: unknown feature 'wavelet'; known: ages, log",
        ),
        (_configure(hidden="3"), "says hidden '3'; write it like 32"),
        (_configure(bias=1), "says bias 1; write it like True"),
        (_configure(format=2), "format 2, this version reads 1"),
        (lambda folder: (folder / CONFIG_FILE).write_text("[1]"), "format None"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), "not valid JSON"),
    ],
)
def test_damaged_files_are_refused_by_name(saved, damage, said):
    damage(saved)
    with pytest.raises(UserError, match=said):
        NAMM.from_pretrained(saved)


def test_saving_over_another_leaves_no_card_of_it(tmp_path):
    NAMM.from_pretrained("recall").save_pretrained(tmp_path)
    assert NAMM.from_pretrained(tmp_path).card == NAMM.from_pretrained("recall").card
    _namm().save_pretrained(tmp_path)
    assert NAMM.from_pretrained(tmp_path).card is None


def test_hub_gives_exactly_the_files_of_a_namm(saved, monkeypatch):
    asked = []

    def download(repo_id, filename):
        asked.append((repo_id, filename))
        if filename == HUB_CARD:
            raise EntryNotFoundError("no card")
        return str(saved / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    _assert_same(NAMM.from_pretrained("someone/namm"), NAMM.from_pretrained(saved))
    assert asked == [("someone/namm", name) for name in (CONFIG_FILE, TENSORS_FILE, HUB_CARD)]


@pytest.mark.parametrize("error", [LocalEntryNotFoundError, OfflineModeIsEnabled])
def test_an_unreachable_hub_is_answered_with_the_nearest_shipped_names(shipped, monkeypatch, error):
    def download(repo_id, filename):
        raise error("no network here.\nmore lines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"\(no network here\).* use a shipped one: recall$"):
        NAMM.from_pretrained("someone/namm-recall")
    with pytest.raises(UserError, match=r"use a shipped one: recall, vision$"):
        NAMM.from_pretrained("someone/xyz")


def test_push_uploads_both_files_and_a_card(monkeypatch):
    namm = _namm()
    uploaded = {}

    def upload(repo_id, folder_path):
        _assert_same(NAMM.from_pretrained(folder_path), namm)
        uploaded[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(
        huggingface_hub, "create_repo", lambda repo_id, exist_ok: f"https://hub/{repo_id}"
    )
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    assert namm.push_to_hub("me/mine") == "https://hub/me/mine"
    assert sorted(uploaded["me/mine"]) == ["README.md", CONFIG_FILE, TENSORS_FILE]
    assert b'NAMM.from_pretrained("me/mine")' in uploaded["me/mine"]["README.md"]


def test_push_without_the_hub_says_how_to_log_in(monkeypatch):
    def refuse(repo_id, exist_ok):
        raise OfflineModeIsEnabled("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(UserError, match=r"did not take me/mine \(offline .* `hf auth login`"):
        _namm().push_to_hub("me/mine")


def test_import_takes_mean_and_frozen_statistics():
    state = torch.load(ORIGINAL, weights_only=True)["evolution_state"]
    namm = import_original(ORIGINAL)
    assert namm.config == NAMMConfig(hidden=1)
    assert torch.equal(namm.vector[0], state["mean"])
    buffers = "stored_buffers_to_save.token_embedding_0_output_"
    assert torch.equal(namm.mean, state[f"{buffers}mean"].flatten())
    torch.testing.assert_close(namm.std**2, state[f"{buffers}var"].flatten())


def _original(tmp_path: Path, change) -> Path:
    content = torch.load(ORIGINAL, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


def test_import_strips_the_compiler_s_prefix(tmp_path):
    def prefix(content):
        state = content["evolution_state"]
        content["evolution_state"] = {f"_orig_mod.{key}": value for key, value in state.items()}

    _assert_same(import_original(_original(tmp_path, prefix)), import_original(ORIGINAL))


@pytest.mark.parametrize(
    ("size", "config"),
    [
        (4172, NAMMConfig()),
        (2026, NAMMConfig(hidden=16, bias=False)),
        (151, NAMMConfig(hidden=1, bias=False)),
    ],
)
def test_import_tells_the_width_from_the_length(tmp_path, size, config):
    path = _original(tmp_path, lambda c: c["evolution_state"].update(mean=torch.zeros(size)))
    assert import_original(path).config == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["evolution_state"].pop("mean"), "has no mean;"),
        (
            lambda c: c["evolution_state"].pop(
                "stored_buffers_to_save.token_embedding_0_output_var"
            ),
            "has no stored_buffers_to_save.token_embedding_0_output_var;",
        ),
        (lambda c: c.pop("evolution_state"), "has no evolution_state"),
        (lambda c: c["evolution_state"].update(mean=torch.zeros(100)), "has 100 parameters"),
        (lambda c: c["evolution_state"].update(mean=torch.zeros(204) / 0), "holds NaN"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        import_original(_original(tmp_path, change))


class _Code:
    def __reduce__(self):
        return os.system, ("echo this must never run > ran",)


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = _original(tmp_path, lambda c: c.update(extra=_Code()))
    with pytest.raises(UserError, match="holds more than tensors"):
        import_original(path)
    Path("plain.pt").write_bytes(pickle.dumps(_Code(), protocol=2))
    with pytest.raises(UserError, match="holds more than tensors"):
        import_original("plain.pt")
    assert not Path("ran").exists()


@pytest.mark.parametrize("kept", [0, 100, 20_000])
def test_a_cut_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "ckpt.pt"
    path.write_bytes(ORIGINAL.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut or damaged|holds more than tensors"):
        import_original(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*nowhere.pt"):
        import_original(tmp_path / "nowhere.pt")
