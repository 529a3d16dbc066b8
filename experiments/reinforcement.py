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

import random_bases
from random_bases import keras_api
from random_bases.keras_api import keras, set_random_seed

# Of evaluations; those of training are below it.
_FIRST_TEST_EPISODE = 2**30


def default_config() -> ml_collections.ConfigDict:
    """The configuration of a search, each key with its default.

    Keys:
      environment: of gymnasium, with a threshold of the return that solves it.
      widths: of the policy's hidden layers, of tanh units.
      basis: a name in `random_bases.bases.names()`.
      population: offspring in an update.
      sigma, learning_rate: the perturbations' standard deviation and Adam's rate for all D weights. In d
        directions both are sqrt(D / d) times as large, so that the weights move as far.
      episodes: of each pair of offspring in an update.
      updates: the most.
      evaluate_every: updates between evaluations, each by `test_episodes`.
      fraction: of the environment's threshold, which the intrinsic dimension must reach.
      start, growth, resolution, seeds: as of `experiments.intrinsic.default_config`.
      processes: how many play; 0: this one. What comes out does not depend on it.
    """
    return ml_collections.ConfigDict(
        {
            "environment": "CartPole-v1",
            "widths": (32, 32),
            "basis": "hadamard",
            "population": 32,
            "sigma": 0.05,
            "learning_rate": 0.05,
            "episodes": 1,
            "updates": 100,
            "evaluate_every": 5,
            "test_episodes": 20,
            "fraction": 1.0,
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
    for key in ("sigma", "learning_rate"):
        if not (config[key] > 0 and math.isfinite(config[key])):
            raise ValueError(f"config.{key}={config[key]} must be positive.")
    if config.processes < 0:
        raise ValueError(f"config.processes={config.processes} must be at least 0.")
    solved_by(config.environment)


def solved_by(environment: str) -> float:
    """The return that solves an environment, by gymnasium's registry.

    Raises:
      ValueError: if the environment is unknown, or there is no such return.
      ModuleNotFoundError: without gymnasium.
    """
    found = _make(environment).spec.reward_threshold
    if found is None:
        raise ValueError(f"config.environment={environment!r} has no threshold of the return that solves it.")
    return float(found)


def network(config: ml_collections.ConfigDict, seed: int) -> keras.Model:
    """A policy: observations to what each action is worth, or to continuous actions."""
    environment = _make(config.environment)
    actions = environment.action_space
    outputs = int(actions.n) if hasattr(actions, "n") else actions.shape[0]
    set_random_seed(seed)
    layers = [keras.layers.Dense(width, activation="tanh") for width in config.widths]
    inputs = keras.Input(environment.observation_space.shape)
    return keras.Sequential([inputs, *layers, keras.layers.Dense(outputs)])


class Return:
    """The mean return of a policy, times `sign`: an objective of `NaturalEvolutionStrategies`.

    Plays in NumPy: for networks as small as these a call of a Keras model takes longer than the environment.

    Args:
      environment: of gymnasium.
      sign: -1.0 for what is minimised.
    """

    def __init__(self, environment: str, sign: float = -1.0):
        self._environment = environment
        self._sign = sign

    def __call__(self, model: keras.Model, batch: Sequence[Any]) -> float:
        """Plays an episode for each seed in batch[0], float [episodes, 1]."""
        act = policy(weights_of(model), _make(self._environment).action_space)
        seeds = np.asarray(batch[0]).ravel().astype(np.int64)
        return self._sign * float(np.mean([play(self._environment, act, int(seed)) for seed in seeds]))


def weights_of(model: keras.Model) -> List[np.ndarray]:
    """The policy's weights: a `SubspaceModel`'s are theta0 + P c."""
    if isinstance(model, random_bases.SubspaceModel):
        return [value.numpy() for value in model.theta()]
    return [keras_api.value_of(variable).numpy() for variable in model.trainable_variables]


def policy(weights: List[np.ndarray], actions) -> Callable[[np.ndarray], Any]:
    """The function of an observation to an action, of dense layers with tanh between them."""
    pairs = list(zip(weights[::2], weights[1::2]))

    def act(observation):
        hidden = np.asarray(observation, np.float32)
        for kernel, bias in pairs[:-1]:
            hidden = np.tanh(hidden @ kernel + bias)
        kernel, bias = pairs[-1]
        outputs = hidden @ kernel + bias
        if hasattr(actions, "n"):
            return int(np.argmax(outputs))
        return np.clip(outputs, actions.low, actions.high)

    return act


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
        scale = math.sqrt(model.count_params() / dimensions)
        model = random_bases.SubspaceModel(model, dimensions, basis=config.basis, seed=seed)
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
    watch = _Best(config, config.fraction * solved_by(config.environment))
    played = config.updates * nes.batches_per_update * config.episodes
    nes.fit(
        (seed + np.arange(played, dtype=np.int32)).reshape(-1, 1),
        batch_size=config.episodes,
        shuffle=False,
        epochs=-(-config.updates // config.evaluate_every),
        steps_per_epoch=config.evaluate_every,
        callbacks=[watch],
        verbose=verbose,
    )
    return watch.best


class _Best(keras.callbacks.Callback):
    """Evaluates after every epoch, and ends training when the mean return is enough."""

    def __init__(self, config: ml_collections.ConfigDict, enough: float):
        super().__init__()
        self._objective = Return(config.environment, sign=1.0)
        self._episodes = np.arange(config.test_episodes) + _FIRST_TEST_EPISODE
        self._enough = enough
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
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; pip install 'random_bases[rl]' has what it needs.") from None
    try:
        return gymnasium.make(environment)
    except gymnasium.error.Error as error:
        raise ValueError(f"config.environment={environment!r} is not possible: {error}") from None
