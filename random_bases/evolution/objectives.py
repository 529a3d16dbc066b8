"""Offspring evaluated by a Python function, in this process or in several.

Each one's weights are put into the model, and afterwards the model's own are put back. Other processes have
a model of their own, draw the directions from the seed as this one does (Salimans et al. 2017,
arXiv:1703.03864), and send losses back: which process evaluates an offspring changes nothing.
"""

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import keras_api
from random_bases.bases.basis import compiled
from random_bases.evolution.offspring import InPlace, OwnWeights, Population
from random_bases.evolution.updates import population_of
from random_bases.keras_api import keras

# Pieces of an update that a process gets, one after another: offspring may take different times.
_PIECES = 4

Objective = Callable[..., float]


class ByObjective:
    """Offspring evaluated one after another by a Python function of the model.

    Args:
      population: the population.
      objective: of (model, batch), or of the model alone where there is no data, to a number to be
        minimised.
      in_place: what moves the weights to each offspring and back; None: they are put back, bit for bit.
      pool: of processes that evaluate; None: this one does.
    """

    def __init__(
        self,
        population: Population,
        objective: Objective,
        in_place: Optional[InPlace],
        pool: Optional["Pool"],
    ):
        self._population = population
        self._pool = pool
        self._evaluator = Evaluator(population, objective, in_place)

    def losses(self, iterator: Optional[Iterator], update: Tensor, replicas) -> Tensor:
        """As `Chunked.losses`, to be called eagerly."""
        assert replicas.count == 1
        count = self._population.perturbations.count
        batches: List[Any] = [()] * count
        if iterator is not None:
            shared = next(iterator) if self._population.shared else None
            batches = [(next(iterator) if shared is None else shared,) for _ in range(count)]
        if self._pool is None:
            rows = self._evaluator.losses(list(range(count)), int(update), batches)
        else:
            theta = [keras_api.value_of(variable).numpy() for variable in self._population.variables]
            rows = self._pool.losses(theta, int(update), batches)
        return tf.constant(rows, tf.float32)


class Evaluator:
    """An objective at offspring that are given by the numbers of their directions.

    Args:
      population, objective, in_place: as of `ByObjective`.
    """

    def __init__(self, population: Population, objective: Objective, in_place: Optional[InPlace] = None):
        self._population = population
        self._objective = objective
        self._in_place = in_place
        self._draw = compiled(OwnWeights(population).trace)

    def set_weights(self, theta: Sequence[Any]) -> None:
        """Gives the trainable variables these values."""
        for variable, value in zip(self._population.variables, theta):
            variable.assign(value)

    def losses(self, directions: Sequence[int], update: int, batches: Sequence[Tuple]) -> List[List[float]]:
        """The losses of some directions' offspring, a row for each direction with one of each sign.

        Args:
          directions: their numbers.
          update: how many updates were made before.
          batches: for each the arguments of the objective that follow the model.
        """
        around = self._around if self._in_place is None else self._in_place.around
        model = self._population.model
        return [
            [
                float(loss)
                for loss in around(
                    tf.constant(direction),
                    tf.constant(update),
                    functools.partial(self._objective, model, *batch),
                )
            ]
            for direction, batch in zip(directions, batches)
        ]

    def _around(self, direction: Tensor, update: Tensor, loss: Callable[[], float]) -> List[float]:
        """As `InPlace.around`, but the weights are put back, bit for bit."""
        theta = [keras_api.value_of(variable).numpy() for variable in self._population.variables]
        offspring = self._draw(direction[tf.newaxis], update)
        values = []
        try:
            for sign in range(len(self._population.signs)):
                self.set_weights([rows[sign] for rows in offspring])
                values.append(loss())
        finally:
            self.set_weights(theta)
        return values


class _Description(NamedTuple):
    """What a process needs to evaluate an objective, all of it to be pickled.

    Attributes:
      model: the model's architecture, and
      classes: those of its layers, by name, and
      variables: the values of all its variables.
      update: as of `updates.population_of`.
      objective: the objective.
    """

    model: Dict[str, Any]
    classes: Dict[str, type]
    variables: List[np.ndarray]
    update: Dict[str, Any]
    objective: Objective


class Pool:
    """Processes that evaluate an objective; they start with the first losses, and end with `close`.

    Args:
      population: the population.
      update: as of `updates.population_of`.
      objective: as of `ByObjective`; to be pickled.
      count: how many processes.
    """

    def __init__(self, population: Population, update: Dict[str, Any], objective: Objective, count: int):
        self._population = population
        self._update = update
        self._objective = objective
        self._count = count
        self._executor: Optional[ProcessPoolExecutor] = None
        _check_copied(population.model)

    def losses(self, theta: List[np.ndarray], update: int, batches: Sequence[Tuple]) -> List[List[float]]:
        """The losses of all offspring, as of `Evaluator.losses`.

        Args:
          theta: the values of the trainable variables.
          update, batches: as there.

        Raises:
          concurrent.futures.process.BrokenProcessPool: if a process was killed.
          Exception: what the objective raises.
        """
        if self._executor is None:
            # Spawned, as TensorFlow's threads do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._count, context, _begin, (self._describe(),))
        distinct = batches[:1] if self._population.shared else batches
        sent = [tf.nest.map_structure(_sent, batch) for batch in distinct] * (len(batches) // len(distinct))
        pieces = np.array_split(np.arange(len(sent)), min(_PIECES * self._count, len(sent)))
        found = [
            self._executor.submit(_losses, theta, update, piece.tolist(), [sent[i] for i in piece])
            for piece in pieces
        ]
        try:
            return [row for future in found for row in future.result()]
        finally:
            for future in found:  # what has not begun, where one has failed
                future.cancel()

    def close(self) -> None:
        """Ends the processes, when each has done the piece that it is at."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _describe(self) -> _Description:
        model = self._population.model
        return _Description(
            keras_api.serialize(model),
            _classes_of(model),
            [keras_api.value_of(variable).numpy() for variable in keras_api.variables_of(model)],
            self._update,
            self._objective,
        )


def _classes_of(model: keras.Model) -> Dict[str, type]:
    """Of a model's layers, by name: they are found although they may not be registered."""
    return {type(layer).__name__: type(layer) for layer in keras_api.layers_of(model)}


def _check_copied(model: keras.Model) -> None:
    """Raises ValueError for a model that another process could not make anew."""
    allowed = "allowed with such models: processes=None"
    try:
        copy = keras_api.deserialize(keras_api.serialize(model), _classes_of(model))
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise ValueError(
            f"model={model.name!r} cannot be made anew in other processes: its architecture does not say all "
            f"of it; {allowed}. Keras: {error}"
        ) from error
    made, known = ([tuple(v.shape) for v in keras_api.variables_of(each)] for each in (copy, model))
    if made != known:
        raise ValueError(
            f"model={model.name!r} cannot be made anew in other processes: that gives variables of shapes "
            f"{made} in place of {known}; {allowed}."
        )


_evaluator: Optional[Evaluator] = None  # of a process of a pool


def _begin(description: _Description) -> None:
    """The first thing that a process of a pool does."""
    global _evaluator
    model = keras_api.deserialize(description.model, description.classes)
    for variable, value in zip(keras_api.variables_of(model), description.variables):
        variable.assign(value)
    _evaluator = Evaluator(population_of(model, description.update), description.objective)


def _losses(theta: List[np.ndarray], update: int, directions: List[int], batches: List[Tuple]):
    """`Evaluator.losses` in a process of a pool, with these values of the trainable variables."""
    assert _evaluator is not None
    _evaluator.set_weights(theta)
    return _evaluator.losses(directions, update, [tf.nest.map_structure(_received, each) for each in batches])


def _sent(tensor: Any) -> np.ndarray:
    """A tensor of a batch as what can be pickled."""
    if not isinstance(tensor, tf.Tensor):
        raise TypeError(f"x has batches of {type(tensor).__name__}; allowed with processes: dense tensors.")
    return tensor.numpy()


def _received(array: np.ndarray) -> Tensor:
    return tf.constant(array)
