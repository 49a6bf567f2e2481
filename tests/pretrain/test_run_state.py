import pickle

import pytest
import torch

from transfer.errors import UserError
from transfer.pretrain.run_state import load_state, save_state, state_path


def test_what_was_saved_comes_back(tmp_path):
    save_state(tmp_path, "these", {"weights": torch.arange(3.0), "step": 4}, [{"step": 4}])
    state = load_state(tmp_path, "these")
    assert state["weights"].tolist() == [0, 1, 2] and state["step"] == 4
    assert (tmp_path / "training.jsonl").read_text() == '{"step": 4}\n'
    with pytest.raises(UserError, match="unfinished run with other settings"):
        load_state(tmp_path, "others")


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01garbage", b"text", pickle.dumps([1]), pickle.dumps({"a": 1})]
)
def test_whatever_is_no_state_is_called_damaged(tmp_path, content):
    state_path(tmp_path).write_bytes(content)
    with pytest.raises(UserError, match=r"training_state\.pt is cut or damaged; delete it"):
        load_state(tmp_path, "these")
