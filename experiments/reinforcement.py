"""Policies trained by evolution strategies on gymnasium's environments, in all weights or in d directions.

As Li et al. 2018 (arXiv:1804.08838, section 3.3) measure the intrinsic dimension of reinforcement learning,
with the evolution strategies of Salimans et al. 2017 (arXiv:1703.03864): centred ranks, antithetic pairs
that see the same episodes, Adam. What a d reaches is the best mean return of an evaluation; training ends
when that reaches what was asked for.
"""

import functools
import math
from typing import Any, Callable, List, Optional, Sequence

import ml_collections
import numpy as np
import tensorflow as tf
from ml_collections import config_dict

import random_bases
from random_bases import keras_api
from random_bases.keras_api import keras, set_random_seed

# Of evaluations; those of training are below it.
_FIRST_TEST_EPISODE = 2**30


def default_config() -> ml_collections.ConfigDict:
    """The configuration of a search, each key with its default.

    Keys:
      environment: of gymnasium; "ALE/..." are Atari's games, seen as two frames of grey pixels.
      solved: the return that solves it; None: that of gymnasium's registry.
      widths: of the policy's hidden layers, of tanh units; before them are two convolutions where it sees
        pixels.
      basis: a name in `random_bases.bases.names()`.
      population: offspring in an update.
      sigma, learning_rate: the perturbations' standard deviation and Adam's rate for all D weights. In d
        directions both are sqrt(D / d) times as large, so that the weights move as far.
      episodes: of each pair of offspring in an update.
      updates: the most, a multiple of `evaluate_every`.
      evaluate_every: updates between evaluations, each by `test_episodes`.
      start, growth, resolution, seeds: as of `experiments.intrinsic.default_config`.
      processes: how many play; 0: this one. What comes out does not depend on it.
    """
    return ml_collections.ConfigDict(
        {
            "environment": "CartPole-v1",
            "solved": config_dict.placeholder(float),
            "widths": (32, 32),
            "basis": "hadamard",
            "population": 32,
            "sigma": 0.05,
            "learning_rate": 0.05,
            "episodes": 1,
            "updates": 100,
            "evaluate_every": 5,
            "test_episodes": 20,
            "start": (4,),
            "growth": 2.0,
            "resolution": 0.1,
            "seeds": (0, 1, 2),
            "processes": 0,
        }
    )


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError or TypeError for bad values, ModuleNotFoundError without gymnasium."""
    if config.basis not in random_bases.bases.names():
        raise ValueError(f"config.basis={config.basis!r} is unknown; allowed: {random_bases.bases.names()}.")
    for key in ("population", "episodes", "updates", "evaluate_every", "test_episodes"):
        if config[key] < 1:
            raise ValueError(f"config.{key}={config[key]} must be at least 1.")
    if config.population % 2:
        raise ValueError(f"config.population={config.population} must be even: offspring come in pairs.")
    if config.updates % config.evaluate_every:
        raise ValueError(
            f"config.updates={config.updates} must be a multiple of evaluate_every={config.evaluate_every}."
        )
    most = _FIRST_TEST_EPISODE // _episodes_of_training(config) - 1
    if max(config.seeds) > most:
        raise ValueError(
            f"config.seeds={config.seeds} with so many updates, offspring and episodes would play the "
            f"episodes of evaluations; allowed: at most {most}."
        )
    for key in ("sigma", "learning_rate"):
        if not (config[key] > 0 and math.isfinite(config[key])):
            raise ValueError(f"config.{key}={config[key]} must be positive.")
    if config.processes < 0:
        raise ValueError(f"config.processes={config.processes} must be at least 0.")
    enough(config)


def _episodes_of_training(config: ml_collections.ConfigDict) -> int:
    """How many episodes a training has: both offspring of a pair play the same ones."""
    return config.updates * config.population // 2 * config.episodes


def enough(config: ml_collections.ConfigDict) -> float:
    """The mean return that the intrinsic dimension must reach.

    Raises:
      ValueError: if the environment is unknown, or nobody says what solves it.
      ModuleNotFoundError: without gymnasium, or what the environment needs.
    """
    known = _make(config.environment).spec.reward_threshold
    solved = known if config.solved is None else config.solved
    if solved is None:
        raise ValueError(
            f"config.solved=None, but gymnasium does not say which return solves {config.environment!r}; "
            "allowed: a number."
        )
    return float(solved)


def network(config: ml_collections.ConfigDict, seed: int) -> keras.Model:
    """A policy: observations to what each action is worth, or to continuous actions."""
    environment = _make(config.environment)
    actions = environment.action_space
    outputs = int(actions.n) if hasattr(actions, "n") else actions.shape[0]
    shape = environment.observation_space.shape
    set_random_seed(seed)
    layers = [keras.layers.Dense(width, activation="tanh") for width in config.widths]
    seen = _of_pixels() if len(shape) == 3 else []
    return keras.Sequential([keras.Input(shape), *seen, *layers, keras.layers.Dense(outputs)])


def _of_pixels() -> List[keras.layers.Layer]:
    """Two frames [2, 210, 160] of a game: what lies between the walls, at half the size, and convolutions."""
    return [
        keras.layers.Permute((2, 3, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Cropping2D(((34, 16), (0, 0))),
        keras.layers.AveragePooling2D(2),
        keras.layers.Conv2D(16, 8, strides=4, activation="relu"),
        keras.layers.Conv2D(32, 4, strides=2, activation="relu"),
        keras.layers.Flatten(),
    ]


class Return:
    """The mean return of a policy, times `sign`: an objective of `NaturalEvolutionStrategies`.

    Dense networks play in NumPy: a call of a Keras model takes longer than a step of most environments.

    Args:
      environment: of gymnasium.
      sign: -1.0 for what is minimised.
    """

    def __init__(self, environment: str, sign: float = -1.0):
        self._environment = environment
        self._sign = sign
        self._player: Optional[keras.Model] = None

    def __reduce__(self):
        return Return, (self._environment, self._sign)

    def __call__(self, model: keras.Model, batch: Sequence[Any]) -> float:
        """Plays an episode for each seed in batch[0], [episodes, 1]."""
        act = self._policy(model)
        seeds = np.asarray(batch[0]).ravel().astype(np.int64)
        return self._sign * float(np.mean([play(self._environment, act, int(seed)) for seed in seeds]))

    def _policy(self, model: keras.Model) -> Callable[[np.ndarray], Any]:
        actions, weights = _make(self._environment).action_space, weights_of(model)
        network = model.model if isinstance(model, random_bases.SubspaceModel) else model
        if all(isinstance(layer, keras.layers.Dense) for layer in network.layers):
            return dense_policy(weights, actions)
        if self._player is None:
            self._player = keras_api.clone(network)
            self._call = tf.function(self._player, autograph=False)
        for variable, value in zip(self._player.trainable_variables, weights):
            variable.assign(value)
        return lambda seen: _action(self._call(tf.constant(seen[np.newaxis], tf.float32))[0].numpy(), actions)


def weights_of(model: keras.Model) -> List[np.ndarray]:
    """The policy's weights: a `SubspaceModel`'s are theta0 + P c."""
    if isinstance(model, random_bases.SubspaceModel):
        return [value.numpy() for value in model.theta()]
    return [keras_api.value_of(variable).numpy() for variable in model.trainable_variables]


def dense_policy(weights: List[np.ndarray], actions) -> Callable[[np.ndarray], Any]:
    """The function of an observation to an action, of dense layers with tanh between them."""
    pairs = list(zip(weights[::2], weights[1::2]))

    def act(observation):
        hidden = np.asarray(observation, np.float32)
        for kernel, bias in pairs[:-1]:
            hidden = np.tanh(hidden @ kernel + bias)
        kernel, bias = pairs[-1]
        return _action(hidden @ kernel + bias, actions)

    return act


def _action(outputs: np.ndarray, actions) -> Any:
    """What a policy does by its outputs."""
    if hasattr(actions, "n"):
        return int(np.argmax(outputs))
    return np.clip(outputs, actions.low, actions.high)


def play(environment: str, act: Callable[[np.ndarray], Any], seed: int) -> float:
    """The return of an episode that begins with a seed."""
    game = _make(environment)
    observation, _ = game.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        observation, reward, terminated, truncated, _ = game.step(act(observation))
        total += float(reward)
        ended = terminated or truncated
    return total


def train(config: ml_collections.ConfigDict, dimensions: Optional[int], seed: int, verbose: int = 1) -> float:
    """Trains once and returns the best mean return of an evaluation.

    Args:
      config: as `default_config`.
      dimensions: d; None trains all weights.
      seed: of initial weights, directions and episodes, an int in [0, 2**31).
      verbose: 0: silent, 1: a progress bar, 2: a line an evaluation.

    Raises:
      ValueError: if `dimensions` is not from 1 to the number of parameters, or other values are bad.
    """
    model = network(config, seed)
    scale = 1.0
    if dimensions is not None:
        parameters = model.count_params()
        model = random_bases.SubspaceModel(model, dimensions, basis=config.basis, seed=seed)
        scale = math.sqrt(parameters / dimensions)
    nes = random_bases.NaturalEvolutionStrategies(
        model,
        config.population,
        config.sigma * scale,
        optimizer=keras.optimizers.Adam(config.learning_rate * scale),
        antithetic=True,
        basis="rademacher",
        objective=Return(config.environment),
        seed=seed,
        processes=config.processes or None,
    )
    watch = _Best(config)
    played = _episodes_of_training(config)
    nes.fit(
        (seed * played + np.arange(played, dtype=np.int32)).reshape(-1, 1),
        batch_size=config.episodes,
        shuffle=False,
        epochs=config.updates // config.evaluate_every,
        steps_per_epoch=config.evaluate_every,
        callbacks=[watch],
        verbose=verbose,
    )
    return watch.best


class _Best(keras.callbacks.Callback):
    """Evaluates after every epoch, and ends training when the mean return is enough."""

    def __init__(self, config: ml_collections.ConfigDict):
        super().__init__()
        self._objective = Return(config.environment, sign=1.0)
        self._episodes = np.arange(config.test_episodes) + _FIRST_TEST_EPISODE
        self._enough = enough(config)
        self.best = -math.inf

    def on_epoch_end(self, epoch, logs=None):
        found = self._objective(self.model, (self._episodes,))
        if logs is not None:
            logs["return"] = found
        self.best = max(self.best, found)
        self.model.stop_training = self.best >= self._enough


@functools.lru_cache(maxsize=None)
def _make(environment: str):
    """An environment of this process."""
    atari = environment.startswith("ALE/")
    try:
        import gymnasium

        if atari:
            import ale_py

            gymnasium.register_envs(ale_py)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; pip install 'random-bases[rl]' has what it needs.") from None
    # Without chance in the game's actions: returns are functions of weights and seeds.
    options = {"obs_type": "grayscale", "frameskip": 4, "repeat_action_probability": 0.0} if atari else {}
    try:
        made = gymnasium.make(environment, **options)
    except gymnasium.error.Error as error:
        raise ValueError(f"config.environment={environment!r} is not possible: {error}") from None
    return gymnasium.wrappers.FrameStackObservation(made, 2) if atari else made
