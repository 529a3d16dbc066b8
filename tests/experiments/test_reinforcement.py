"""Policies on gymnasium's environments: what they play, and the search of their intrinsic dimension."""

import numpy as np
import pytest

import random_bases as rb
from experiments import intrinsic, reinforcement, results
from random_bases.keras_api import keras

gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium, of the extra [rl]")

SEEDS = np.array([[1.0], [2.0]])


def config_of(**changes):
    config = reinforcement.default_config()
    config.update({"widths": (8,), "population": 16, "updates": 20, "seeds": (0,), **changes})
    return config


class Line(gymnasium.Env):
    """A point that an action moves; the return is minus the squared distances from 1."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,))
    action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at, self._steps = self.np_random.uniform(-0.1, 0.1), 0
        return np.array([self._at], np.float32), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, np.float32))
        self._at += float(action[0])
        self._steps += 1
        return np.array([self._at], np.float32), -((self._at - 1) ** 2), self._steps == 5, False, {}


gymnasium.register("random_bases/Line-v0", Line, reward_threshold=-2.0)
gymnasium.register("random_bases/Open-v0", Line)


@pytest.mark.parametrize("dimensions", [None, 5])
def test_a_policy_is_its_keras_model(dimensions):
    model = reinforcement.network(config_of(), 0)
    called = model
    if dimensions is not None:
        called = rb.SubspaceModel(model, dimensions, basis="rademacher", seed=0)
        called.coordinates.assign(np.linspace(-1, 1, dimensions))
    act = reinforcement.dense_policy(reinforcement.weights_of(called), gymnasium.spaces.Discrete(2))
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected = np.argmax(called(observations), axis=1)
    assert [act(observation) for observation in observations] == expected.tolist()
    assert 0 < np.mean(expected) < 1


def test_continuous_actions_are_clipped_to_what_is_allowed():
    box = gymnasium.spaces.Box(-0.5, 0.5, (1,))
    act = reinforcement.dense_policy([np.array([[2.0]], np.float32), np.array([0.1], np.float32)], box)
    assert [float(act(np.array([x]))[0]) for x in (0.1, 3.0, -3.0)] == [pytest.approx(0.3), 0.5, -0.5]


def test_returns_are_of_the_episodes_of_the_seeds():
    environment = "random_bases/Line-v0"
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.zeros((1, 1)), np.zeros(1)])
    returns = []
    for seed in (1, 2):  # the point stays where it begins
        at = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).uniform(-0.1, 0.1)
        returns.append(-5 * (at - 1) ** 2)
    found = reinforcement.Return(environment)(model, (SEEDS,))
    assert found == pytest.approx(-np.mean(returns), rel=1e-6)
    assert returns[0] != returns[1]


def test_evolution_learns_in_few_directions_and_stops_when_it_has(monkeypatch):
    config = config_of(environment="random_bases/Line-v0", updates=60, test_episodes=4)
    untrained = reinforcement.Return(config.environment, 1.0)(reinforcement.network(config, 0), (SEEDS,))
    found = reinforcement.train(config, 6, 0, verbose=0)
    assert found >= -2.0 > untrained + 1
    played = []
    monkeypatch.setattr(reinforcement, "play", lambda environment, act, seed: played.append(seed) or -1.0)
    assert reinforcement.train(config, 6, 0, verbose=0) == -1.0  # enough at once: one epoch, one evaluation
    assert len(played) == 5 * 16 + 4
    assert sorted(set(played[:-4])) == list(range(40))  # both of a pair play the same episodes


def test_a_search_finds_d_and_goes_on_where_it_was(tmp_path, monkeypatch):
    config = config_of(environment="random_bases/Line-v0", start=(1, 8), resolution=10.0)
    calls = []

    def train(config, dimensions, seed, verbose):
        calls.append(dimensions)
        return -1.0 if dimensions in (None, 8) else -3.0

    monkeypatch.setattr(reinforcement, "train", train)
    found = intrinsic.run(config, tmp_path, verbose=0)
    assert (found["intrinsic_dimension"], found["largest_below"], found["threshold"]) == (8, 1, -2.0)
    assert found["measure"] == "mean return" and found["parameters"] == 8 * 3 + 1
    assert calls == [None, 1, 8]
    (tmp_path / "evaluations" / "subspace_d8_seed0.json").unlink()
    with config.unlocked():
        config.processes = 2  # who plays changes nothing
    assert intrinsic.run(config, tmp_path, verbose=0)["intrinsic_dimension"] == 8
    assert calls == [None, 1, 8, 8]
    assert (tmp_path / "accuracy.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="sigma"):
        intrinsic.run(config_of(environment="random_bases/Line-v0", sigma=0.5), tmp_path, verbose=0)
    assert results.read_json(tmp_path / "config.json")["sigma"] == 0.05


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"environment": "NoSuch-v0"}, "config.environment='NoSuch-v0' is not possible"),
        ({"environment": "random_bases/Open-v0"}, "config.solved=None, but gymnasium does not say"),
        ({"basis": "no"}, "config.basis='no' is unknown"),
        ({"population": 0}, "config.population=0 must be at least 1"),
        ({"sigma": -1.0}, "config.sigma=-1.0 must be positive"),
        ({"processes": -1}, "config.processes=-1"),
        ({"population": 33}, "config.population=33 must be even"),
        ({"updates": 10, "evaluate_every": 4}, "config.updates=10 must be a multiple of evaluate_every=4"),
        ({"seeds": (2**31 - 1,)}, "would play the episodes of evaluations; allowed: at most 6710885"),
        ({"seeds": (-1,)}, "-1 must be an int"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(changes, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        intrinsic.run(config_of(**changes), tmp_path / "search", verbose=0)
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 2])
def test_cartpole_is_solved_in_16_directions(processes):
    config = config_of(widths=(32, 32), population=32, updates=60, processes=processes)
    assert reinforcement.train(config, 16, 0, verbose=0) >= 475


@pytest.mark.slow
def test_the_pendulum_is_solved_in_8_directions():
    pytest.importorskip("mujoco", reason="needs MuJoCo, of the extra [rl]")
    config = config_of(environment="InvertedPendulum-v5", widths=(32, 32), population=32, updates=100)
    assert reinforcement.train(config, 8, 0, verbose=0) >= 950


@pytest.mark.parametrize("dimensions", [None, 5])
def test_what_is_not_dense_plays_by_its_keras_model(dimensions, monkeypatch):
    monkeypatch.setattr(reinforcement, "_make", lambda environment: Line())
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Rescaling(2.0)(inputs)))
    model.set_weights([np.array([[0.1]]), np.array([0.05])])
    called = model if dimensions is None else rb.SubspaceModel(model, 2, basis="rademacher", seed=0)
    objective = reinforcement.Return("line", 1.0)
    returns = []
    for weights in ([0.1, 0.05], [-0.2, 0.3]):  # the same player, with other weights
        if dimensions is None:
            model.set_weights([np.array([[weights[0]]]), np.array([weights[1]])])
        else:
            called.coordinates.assign(weights)
        kernel, bias = reinforcement.weights_of(called)
        dense = reinforcement.dense_policy([2 * kernel, bias], Line.action_space)
        returns.append(objective(called, (SEEDS,)))
        assert returns[-1] == pytest.approx(
            np.mean([reinforcement.play("line", dense, int(seed)) for seed in SEEDS.ravel()]), rel=1e-5
        )
    assert abs(returns[0] - returns[1]) > 0.1


@pytest.mark.slow
def test_pong_is_played_from_pixels():
    pytest.importorskip("ale_py", reason="needs Atari's games, of the extra [rl]")
    config = config_of(environment="ALE/Pong-v5", solved=18.0, widths=(256,), population=2, updates=1)
    config.update({"evaluate_every": 1, "test_episodes": 1})
    assert reinforcement.network(config, 0).count_params() == 536_374
    assert -21 <= reinforcement.train(config, 100, 0, verbose=0) <= 21
