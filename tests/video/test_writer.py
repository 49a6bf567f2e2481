from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_control import save_tiny_control

from transfer.envs.environment import environment, make_envs
from transfer.envs.mujoco import use_headless_rendering
from transfer.errors import UserError
from transfer.evaluation.control import ControlEval
from transfer.evaluation.runner import evaluate
from transfer.files import check_writable
from transfer.video.writer import CODECS, write_video


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_frames_come_back(tmp_path, suffix):
    shades = [0, 60, 120, 180, 240]
    frames = [np.full((48, 65, 3), shade, np.uint8) for shade in shades]
    write_video(tmp_path / f"shades{suffix}", frames, Fraction(125, 4))
    found = decoded(tmp_path / f"shades{suffix}")
    assert [frame.shape for frame in found] == [(48, 64, 3)] * 5
    assert [frame.mean() for frame in found] == pytest.approx(shades, abs=24)


def test_an_episode_is_filmed(tmp_path):
    use_headless_rendering()
    try:
        [env] = make_envs(environment("hopper"), 1, video=True)
        env.reset(seed=0)
        env.render()
        env.close()
    except Exception as error:
        pytest.skip(f"no rendering here: {error}")
    path = tmp_path / "new" / "episode.mp4"
    model = save_tiny_control(tmp_path / "model")
    config = ControlEval(model=str(model), episodes=1, max_steps=12, memory=("full",), video=path)
    results = evaluate(config)
    frames = decoded(path)
    # Hopper runs at 125 steps a second, and every fourth is drawn.
    assert len(frames) == 3
    assert frames[0].shape == (480, 480, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 40
    assert len(results.rows) == 4


def test_an_unwritable_place_is_refused_and_a_writable_one_left_as_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write video"):
        check_writable(tmp_path / "file" / "a.mp4", "video")
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path, "video")
    check_writable(tmp_path / "a.mp4", "video")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
