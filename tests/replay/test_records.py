"""Records on disk: what was written is read, and nothing else is taken for one."""

import pytest
import torch
from memory_records import saved
from safetensors.torch import save_file

from transfer.errors import UserError
from transfer.replay.recording import LayerStates
from transfer.replay.records import Record, read_records, write_record


def test_some_rows_of_a_layer_are_read_back(tmp_path):
    record = saved(tmp_path / "a.safetensors", rows=3, tokens=20, layers=3)
    about = record.about
    assert (about.rows, about.tokens, about.model, record.layers) == (3, 20, "tiny", [0, 1, 2])
    whole, some = record.layer(1, [0, 1, 2]), record.layer(1, [2, 0])
    assert torch.equal(some.key, whole.key[[2, 0]])
    assert whole.scale == 0.5
    assert whole.query.dtype == torch.float32


def test_gradients_keep_their_proportions_over_layers_however_small(tmp_path):
    one = torch.full((1, 1, 4, 2), 1.0)
    layers = {i: LayerStates(one, one, one, one * size, 1.0) for i, size in ((0, 3e-12), (7, 1e-9))}
    about = {"model": "tiny", "task": "none", "modality": "language"}
    write_record(tmp_path / "a.safetensors", layers, 1, about)
    record = Record(tmp_path / "a.safetensors")
    low, high = (record.layer(i, [0]).gradient for i in record.layers)
    assert (low / high).flatten().tolist() == pytest.approx([3e-3] * 8, rel=1e-3)
    assert record.about.first == 1


def test_a_file_that_is_cut_or_something_else_is_no_record(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="is no record of `transfer record`, or cut"):
        _ = Record(path).about
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="is no record"):
        _ = Record(path).about


def test_a_file_that_is_not_whole_yet_is_no_record(tmp_path):
    saved(tmp_path / "a.safetensors")
    (tmp_path / ".b.safetensors.x.partial.safetensors").write_bytes(b"cut")
    assert [one.path.name for one in read_records(tmp_path)] == ["a.safetensors"]


def test_numbers_beyond_half_precision_are_refused(tmp_path):
    one = torch.ones(1, 1, 4, 2)
    layers = {3: LayerStates(one, 1e5 * one, one, one, 1.0)}
    about = {"model": "tiny", "task": "none", "modality": "language"}
    with pytest.raises(UserError, match="the key of layer 3 of tiny has numbers beyond half"):
        write_record(tmp_path / "a.safetensors", layers, 0, about)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_records_says_so(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="holds no records; make some"):
            read_records(folder)
