"""Episodes of scripted experts: recorded in both layouts, and read back as the spaces' vectors."""

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from corridor_env import Corridor

import transfer.envs.scripted as module
from transfer.cli import main
from transfer.envs.collect import CollectConfig, collect
from transfer.envs.d4rl import write_d4rl
from transfer.envs.datasets import read_dataset
from transfer.envs.environment import environment
from transfer.envs.scripted import has_expert, play
from transfer.envs.spaces import vectors
from transfer.errors import UserError

KINDS = ("vector", "choice", "picture", "dict", "tuple")


def recorded(tmp_path, name, layout="d4rl", **more):
    out = tmp_path / ("expert-v0" if layout == "minari" else "expert.hdf5")
    [path] = collect(CollectConfig(env=name, out=out, format=layout, **more))
    return path


def seen_and_done(kind, actions, seed):
    """An episode of the expert, step by step, as vectors."""
    env = Corridor(kind, actions)
    seen, done, over = [env.reset(seed=seed)[0]], [], False
    while not over:
        done.append(env.expert())
        observation, _, over, *_ = env.step(done[-1])
        seen.append(observation)
    stacked = [module.stacked(space, values) for space, values in
               ((env.observation_space, seen[:-1]), (env.action_space, done))]  # fmt: skip
    return vectors(env.observation_space, stacked[0]), vectors(env.action_space, stacked[1])


@pytest.mark.parametrize("layout", ["d4rl", "minari"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("actions", ["one", "two"])
def test_what_is_recorded_is_read_back_as_vectors(tmp_path, layout, kind, actions):
    name = f"corridor_env:Corridor-v0:kind={kind},actions={actions}"
    path = recorded(tmp_path, name, layout, episodes=3, skilled=1.0, seed=1_000_005)
    dataset = read_dataset(path, name)
    assert [len(one) for one in dataset.trajectories] == [4, 4, 4]
    for place, one in enumerate(dataset.trajectories):
        seen, done = seen_and_done(kind, actions, seed=1_000_005 + place)
        np.testing.assert_array_equal(one.observations, seen)
        np.testing.assert_array_equal(one.actions, done)
        assert one.rewards.tolist() == [0, 0, 0, 1]
        assert one.recall is not None and one.recall.tolist() == [False, False, False, True]
        assert one.terminated
    assert dataset.origin["environment"] == f"{environment(name).title}"
    assert dataset.origin["command"].startswith("transfer collect --env corridor_env:Corridor-v0:")
    assert dataset.origin["seed"] == "1000005"
    assert str(tmp_path) not in str(dataset.origin)


def test_the_flat_file_holds_the_environments_own_numbers(tmp_path):
    path = recorded(tmp_path, "corridor_env:Corridor-v0:kind=dict", episodes=2)
    with h5py.File(path) as file:
        assert file["observations/where"].dtype == np.int64
        assert file["observations/seen/signal"].shape == (8, 1)
        assert file["actions"].shape == (8,) and file["actions"].dtype == np.int64
        assert file["infos/recall"].dtype == bool
        assert file["metadata/algorithm"][()] == b"scripted expert"
    path = recorded(tmp_path / "b", "corridor_env:Corridor-v0:kind=picture", episodes=2)
    with h5py.File(path) as file:
        assert file["observations"].dtype == np.uint8
        assert file["observations"].shape == (8, 2, 3, 1)


def test_half_of_what_the_unskilled_recall_is_wrong():
    found = environment("corridor_env:Corridor-v0")
    assert has_expert(found) and not has_expert(environment("CartPole-v1"))
    episodes = list(play(found, range(400), skilled=0.5))
    right = np.array([one.rewards[-1] for one in episodes])
    skilled = np.array([round((n + 1) / 2) > round(n / 2) for n in range(400)])
    assert skilled.sum() == 200 and right[skilled].all()
    assert abs(right[~skilled].mean() - 0.5) < 0.1
    again = [one.rewards[-1] for one in play(found, range(400), skilled=0.5)]
    np.testing.assert_array_equal(right, again)
    assert [one.seed for one in episodes] == list(range(400))


def test_an_episode_without_an_end_is_cut_at_the_horizon():
    found = environment("corridor_env:Corridor-v0:length=50")
    [one] = play(replace(found, horizon=7), [0], skilled=1.0)
    assert len(one.rewards) == 7 and not one.terminated and len(one.recall) == 8


def test_minari_loads_the_folder(tmp_path):
    pytest.importorskip("minari", reason="minari is not installed (extra `minari`)")
    from minari import MinariDataset

    for kind in KINDS:
        name = f"corridor_env:Corridor-v0:kind={kind},actions=two"
        path = recorded(tmp_path / kind, name, "minari", episodes=3, skilled=1.0)
        dataset = MinariDataset(path / "data")
        env = Corridor(kind, "two")
        assert dataset.observation_space == env.observation_space
        assert dataset.action_space == env.action_space
        assert (dataset.total_episodes, dataset.total_steps) == (3, 12)
        for episode, one in zip(dataset, read_dataset(path, name).trajectories):
            seen = vectors(env.observation_space, episode.observations)
            np.testing.assert_array_equal(seen[:-1], one.observations)
            np.testing.assert_array_equal(vectors(env.action_space, episode.actions), one.actions)
            np.testing.assert_array_equal(episode.infos["recall"][:-1], one.recall)
            assert episode.terminations.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"env": "CartPole-v1"}, "CartPole-v1 has no method `expert`, and a policy is trained for"),
        ({"steps": 10}, "--steps is of no use for .*, whose data are of its scripted expert"),
        ({"env_version": "v5"}, "has no version v5, .* leave --env-version out"),
        ({"env": "hopper", "skilled": 0.5}, "--skilled is of no use for hopper, .* of a policy"),
        ({"env": "hopper", "format": "minari"}, "--format is of no use for hopper"),
        ({"out": None}, "--out is missing"),
        ({"out": Path(__file__).parent}, "tests/envs is a folder; name a file"),
        ({"out": Path("x.txt")}, "--out x.txt becomes an HDF5 file; let its name end in .hdf5"),
        ({"format": "minari"}, "is no name of a Minari dataset; let it end in -v and a number"),
        ({"episodes": 0}, "--episodes is 0; use 1 or more"),
        ({"skilled": 1.5}, "--skilled is 1.5; use a share from 0 to 1"),
        ({"skilled": float("nan")}, "--skilled is nan; use a share from 0 to 1"),
    ],
)
def test_options_that_do_not_fit_are_sentences(tmp_path, changes, sentence):
    usual = {"env": "corridor_env:Corridor-v0", "out": tmp_path / "expert.hdf5"}
    with pytest.raises(UserError, match=sentence):
        collect(CollectConfig(**(usual | changes)))


def test_the_command_and_an_interrupt(tmp_path, capsys, monkeypatch):
    out = tmp_path / "expert.hdf5"
    words = ["collect", "--env", "corridor_env:Corridor-v0", "--episodes", "4", "--out", str(out)]
    words += ["--skilled", "1"]
    assert main(words) == 0
    assert "16 transitions, 4 episodes, return 1 ± 0 (max 1)" in capsys.readouterr().err
    assert main(words) == 2
    assert "expert.hdf5 has episodes already; name another place" in capsys.readouterr().err

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Corridor, "expert", stop)
    out.unlink()
    assert main(words) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "layout", "sentence"),
    [
        ("file/x.hdf5", "d4rl", "cannot write episodes .*x.hdf5: .*; choose a folder"),
        ("file-v0", "minari", "cannot write episodes .*main_data.hdf5: .*; choose a folder"),
        ("folder-v0/data", "minari", "is no name of a Minari dataset"),
        ("folder-v0", "minari", "folder-v0 has episodes already; name another place, or delete"),
        ("here.hdf5", "d4rl", "here.hdf5 has episodes already; name another place, or delete"),
    ],
)
def test_a_place_for_nothing_is_refused_before_episodes_are_played(
    tmp_path, monkeypatch, out, layout, sentence
):
    (tmp_path / "folder-v0/data").mkdir(parents=True)
    for name in ("file", "file-v0", "folder-v0/data/main_data.hdf5", "here.hdf5"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(Corridor, "reset", lambda *_, **__: pytest.fail("it was played"))
    with pytest.raises(UserError, match=sentence):
        collect(CollectConfig(env="corridor_env:Corridor-v0", out=tmp_path / out, format=layout))


@pytest.mark.parametrize("seen", ["a quarter", "nothing", "a choice"])
def test_views_that_hardly_change_are_read_back(tmp_path, seen):
    """Compressed to a four-hundredth, which its reader takes for a bomb."""
    path, steps = tmp_path / "a.hdf5", 60_000
    content = toy(steps, observations=np.zeros((steps, 40), np.float32))
    if seen == "a quarter":
        content["observations"][:] = 0.25
    if seen == "a choice":
        content["observations"][np.arange(steps), np.arange(steps) // 5000] = 1
    ends = np.arange(steps) % 3000 == 2999
    write_d4rl(path, content | {"actions": np.zeros((steps, 2)), "terminals": ends})
    dataset = read_dataset(path)
    np.testing.assert_array_equal(dataset.observations, content["observations"])
    np.testing.assert_array_equal(dataset.rewards, np.ones(steps))
    assert dataset.observations.dtype == np.float32 and len(dataset.trajectories) == 20


def toy(steps=6, **more):
    ends = np.arange(steps) % 3 == 2
    return {
        "observations": np.zeros((steps, 2), np.float32),
        "actions": np.arange(steps) % 3,
        "rewards": np.ones(steps),
        "terminals": ends,
        "timeouts": np.zeros(steps, bool),
    } | more


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"actions": np.array([0, 1, 2, 7, 0, 0])}, r"'actions' .*a\.hdf5: value 7 at 3 is not in"),
        ({"actions": np.array([0, 1, 0.5, 1, 0, 0])}, r"value 0\.5 at 2 is not in"),
        ({"actions": np.full(6, np.nan)}, "value nan at 0 is not in"),
        (
            {"actions": np.zeros((6, 2))},
            r"of shape \(2,\), and those of the env.* have \(\)",
        ),
        ({"observations": np.zeros((6, 3))}, r"'observations' .* of shape \(3,\), .* have \(2,\)"),
        ({"observations/a": np.zeros(6)}, "'observations' of dataset .* is not numeric"),
        ({"actions": np.zeros(5)}, r"'actions' .* has shape \(5, 3\) instead of \(6, size\)"),
        ({"infos/recall": np.full(6, 3)}, "'infos/recall' .* other numbers than 0 and 1"),
        ({"infos/recall": np.ones(5, bool)}, r"'recall' .* has shape \(5,\)"),
        ({"rewards": np.zeros((6, 2))}, r"'rewards' .* has shape \(6, 2\) instead of \(6,\)"),
        ({"terminals": np.zeros((6, 2))}, r"'terminals' .* has shape \(6, 2\) instead of \(6,\)"),
    ],
)
def test_what_is_not_of_the_environment_is_a_sentence(tmp_path, changes, sentence):
    content = toy() | changes
    if "observations/a" in changes:
        del content["observations"]
    write_d4rl(tmp_path / "a.hdf5", content)
    with pytest.raises(UserError, match=sentence):
        read_dataset(tmp_path / "a.hdf5", "corridor_env:Corridor-v0")


def test_a_column_of_choices_is_one_choice_a_step(tmp_path):
    name = "corridor_env:Corridor-v0"
    write_d4rl(tmp_path / "a.hdf5", toy())
    write_d4rl(tmp_path / "b.hdf5", toy(actions=np.arange(6.0)[:, None] % 3))
    found = [read_dataset(tmp_path / file, name) for file in ("a.hdf5", "b.hdf5")]
    np.testing.assert_array_equal(found[0].actions, np.eye(3)[np.arange(6) % 3])
    np.testing.assert_array_equal(found[0].actions, found[1].actions)
    assert found[0].recall is None and found[0].trajectories[0].recall is None
    with pytest.raises(UserError, match="or name the environment whose own they are"):
        read_dataset(tmp_path / "a.hdf5")


def test_a_dict_that_is_not_whole_is_a_sentence(tmp_path):
    name, file = "corridor_env:Corridor-v0:kind=dict", tmp_path / "a.hdf5"
    whole = toy() | {"observations/where": np.zeros(6), "observations/seen/signal": np.zeros(6)}
    del whole["observations"]
    write_d4rl(file, whole)
    assert read_dataset(file, name).observations.shape == (6, 10)
    write_d4rl(file, whole | {"observations/where": np.zeros(5)})
    with pytest.raises(UserError, match=r"the arrays in 'observations' .* have \[5, 6\] steps"):
        read_dataset(file, name)
    whole.pop("observations/seen/signal")
    write_d4rl(file, whole | {"observations/seen": np.zeros(6)})
    with pytest.raises(UserError, match=r"'observations/seen' .* is one array, and .* a Dict"):
        read_dataset(file, name)
    whole.pop("observations/where")
    write_d4rl(file, whole | {"observations/seen/signal": np.zeros(6)})
    with pytest.raises(UserError, match="has no array 'observations/where'"):
        read_dataset(file, name)


def test_without_timeouts_episodes_end_at_the_horizon_of_the_environment(tmp_path):
    content = toy(steps=1000, terminals=np.zeros(1000, bool))
    del content["timeouts"]
    content["observations"] = np.zeros((1000, 4))
    content["actions"] = np.zeros(1000, int)
    write_d4rl(tmp_path / "a.hdf5", content)
    assert len(read_dataset(tmp_path / "a.hdf5", "CartPole-v1").trajectories) == 2


def test_metadata_of_minari_that_say_nothing_are_left_and_damaged_ones_are_a_sentence(tmp_path):
    path = recorded(tmp_path, "corridor_env:Corridor-v0", "minari", episodes=1)
    about = path / "data/metadata.json"
    about.write_text(json.dumps({"seed": [1], "command": {"a": 1}, "algorithm_name": "x"}))
    assert read_dataset(path, "corridor_env:Corridor-v0").origin == {}
    about.write_text("{")
    with pytest.raises(UserError, match=r"metadata\.json is not valid JSON"):
        read_dataset(path, "corridor_env:Corridor-v0")


def test_a_pack_of_hopper_reads_the_same_with_its_environment(tmp_path):
    rng = np.random.default_rng(0)
    write_d4rl(
        tmp_path / "a.hdf5",
        toy(observations=rng.normal(size=(6, 11)), actions=rng.uniform(-1, 1, (6, 3))),
    )
    plain, named = (read_dataset(tmp_path / "a.hdf5", env) for env in (None, "hopper"))
    for field in ("observations", "actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(named, field))
    with pytest.raises(UserError, match=r"'observations' .* of shape \(11,\), .* have \(17,\)"):
        read_dataset(tmp_path / "a.hdf5", "walker2d")


@pytest.mark.parametrize(
    ("name", "actions", "sentence"),
    [
        ("Pendulum-v1", [0.5, -0.9, 2.1], r"value \[2\.1\] at 2 is not in Box\(-2\.0, 2\.0"),
        ("Toll-v0", [0.5, -0.01, 0.9], r"value \[-0\.01\] at 1 is not in Box\(0\.0, 1\.0"),
        ("Toll-v0", [0.5, 0.01, 1.001], r"value \[1\.001\] at 2 is not in Box\(0\.0, 1\.0"),
        ("Toll-v0", [-0.0002, 0.01, 1.0002], None),
    ],
)
def test_actions_outside_their_box_are_named(tmp_path, monkeypatch, name, actions, sentence):
    class Toll(Corridor):
        def __init__(self):
            super().__init__()
            self.observation_space = gymnasium.spaces.Box(-1, 1, (3,))
            self.action_space = gymnasium.spaces.Box(0, 1, (1,))

    spec = gymnasium.envs.registration.EnvSpec("Toll-v0", entry_point=Toll)
    monkeypatch.setitem(gymnasium.registry, "Toll-v0", spec)
    # Observations outside their Box are taken: many environments bound them carelessly.
    content = toy(3, observations=np.full((3, 3), 9.0), actions=np.float32(actions)[:, None])
    write_d4rl(tmp_path / "a.hdf5", content)
    if sentence is None:
        found = read_dataset(tmp_path / "a.hdf5", name)
        np.testing.assert_array_equal(found.actions[:, 0], np.float32(actions))
        assert found.observations.max() == 9
        return
    with pytest.raises(UserError, match=rf"'actions' of dataset .*a\.hdf5: {sentence}"):
        read_dataset(tmp_path / "a.hdf5", name)
