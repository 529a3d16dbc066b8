"""What moves a model's weights in a run that is logged, and how its steps are repeated.

`Descent`, `Redraws` and `Evolution` answer the same questions: `ReplayLog` asks them of a model, `replay` of
a header.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments, bases, keras_api
from random_bases.evolution import NaturalEvolutionStrategies
from random_bases.evolution.offspring import InPlace
from random_bases.evolution.updates import Update, population_of
from random_bases.keras_api import keras
from random_bases.models import SubspaceModel
from random_bases.optimizers import RandomBasesDescent

# Notes the coordinates of a step, float32, and how many updates were made before it.
Keep = Callable[[Tensor, Tensor], None]
# Goes a step again: learning rate (NaN: a schedule's), coordinates, number of the step.
Advance = Callable[[float, np.ndarray, int], None]


class Descent:
    """A model that is trained by a `RandomBasesDescent`."""

    # What a header has of it.
    KEYS = {"optimizer": dict, "rule": dict, "workers": int, "untouched": list}

    def __init__(self, model: keras.Model):
        self._model, self._optimizer = model, model.optimizer
        self._scheduled = _is_scheduled(model.optimizer.inner_optimizer)

    @property
    def variables(self) -> Sequence:
        """The weights that it moves."""
        return keras_api.trained_of(self._model.trainable_variables)

    def updates(self) -> int:
        """How many it has made; `int` alone does not know Keras 3's mirrored variables."""
        return int(tf.convert_to_tensor(self._optimizer.iterations))

    @property
    def capacity(self) -> int:
        """How many steps are made before a callback sees them."""
        return keras_api.steps_per_execution_of(self._model)

    def record(self, keep: Keep) -> None:
        """Has every step call `keep`.

        Raises:
          ValueError: for steps that cannot be repeated.
        """
        _refuse_compiled_steps(self._model)
        self._optimizer.rule.record(keep)
        self._model.make_train_function(force=True)  # an earlier `fit` has traced it without

    def begin(self) -> None:
        """Before the first step, of a model that is built.

        Raises:
          ValueError: for what a header cannot tell.
        """
        if self._optimizer.rule.subspace is None:
            keras_api.build_optimizer(self._optimizer, self._model.trainable_variables)
        _refuse_exclusions(self._model, self._optimizer.inner_optimizer)

    @property
    def shape(self) -> Tuple[int, int]:
        """Of a step's coordinates."""
        return self._optimizer.rule.directions.shape

    def learning_rate(self) -> Union[float, Tensor]:
        """Of the step at hand; NaN of a schedule, which goes by the number of the step."""
        return np.nan if self._scheduled else self._optimizer.learning_rate

    def describe(self) -> Dict[str, Any]:
        """Of `KEYS`."""
        rule = self._optimizer.rule
        return {
            "optimizer": self._optimizer.get_config(),
            "rule": rule.get_config(),
            "workers": rule.directions.replica_count,
            "untouched": rule.untouched,
        }

    @staticmethod
    def known_before(header: Dict[str, Any]) -> Dict[str, Any]:
        """What is known of a header before the first step: without learning rates that callbacks may set."""
        optimizer = _without_rate(header["optimizer"]["inner_optimizer"])
        return {**header, "optimizer": optimizer, "untouched": None}

    @staticmethod
    def check(header: Dict[str, Any]) -> None:
        """Raises for what no `ReplayLog` wrote."""
        arguments.integer("workers", header["workers"], 1)
        for position in header["untouched"]:
            arguments.integer("untouched", position, 0, len(header["variables"]) - 1)
        dict(header["optimizer"]["inner_optimizer"]["config"])["learning_rate"]

    @staticmethod
    def again(header: Dict[str, Any], model: keras.Model) -> Advance:
        """What repeats the steps of a run with this header, from the weights that `model` has."""
        variables: List[Any] = keras_api.trained_of(model.trainable_variables)
        optimizer = RandomBasesDescent.from_config(header["optimizer"])
        rule, inner = optimizer.rule, optimizer.inner_optimizer
        paths = [getattr(v, "path", v.name).split(":")[0] for v in variables]
        rule.build([v.shape for v in variables], paths, header["workers"])
        keras_api.build_optimizer(inner, variables)
        moved = [i for i in range(len(variables)) if i not in header["untouched"]]

        @tf.function
        def step(coordinates, updates):
            parts = rule.directions.expand(coordinates, updates)
            pairs = [(tf.cast(parts[i], variables[i].dtype), variables[i]) for i in moved]
            inner.apply_gradients(pairs)

        def advance(rate, coordinates, number):
            if not np.isnan(rate):
                optimizer.learning_rate = rate
            coordinates = coordinates.reshape(header["shape"])
            step(tf.constant(coordinates), tf.constant(number, tf.int64))

        return advance


class Redraws:
    """A `SubspaceModel` with redraws, whose weights take P c in after each update of c."""

    KEYS = {"subspace": dict}

    def __init__(self, model: SubspaceModel):
        self._model = model

    @property
    def variables(self) -> Sequence:
        return keras_api.trained_of(self._model.model.trainable_variables)

    def updates(self) -> int:
        return self._model.updates_made

    @property
    def capacity(self) -> int:
        return keras_api.steps_per_execution_of(self._model)

    def record(self, keep: Keep) -> None:
        _refuse_compiled_steps(self._model)
        self._model.record(keep)
        self._model.make_train_function(force=True)

    def begin(self) -> None:
        pass  # it is built, and its header tells all

    @property
    def shape(self) -> Tuple[int, int]:
        return 1, self._model.dimensions

    def learning_rate(self) -> float:
        return np.nan  # c has it in it

    def describe(self) -> Dict[str, Any]:
        config = self._model.get_config()
        names = ("dimensions", "basis", "compartments", "allocation", "seed", "redraw_every")
        return {"subspace": {name: config[name] for name in names}}

    @staticmethod
    def known_before(header: Dict[str, Any]) -> Dict[str, Any]:
        return header

    @staticmethod
    def check(header: Dict[str, Any]) -> None:
        arguments.integer("redraw_every", header["subspace"]["redraw_every"], 1)

    @staticmethod
    def again(header: Dict[str, Any], model: keras.Model) -> Advance:
        config = dict(header["subspace"])
        if isinstance(config["basis"], dict):
            config["basis"] = bases.deserialize(config["basis"])
        sub = SubspaceModel(model, **config)
        step = tf.function(sub.take_in)

        def advance(rate, coordinates, number):
            del rate
            step(tf.constant(coordinates), tf.constant(number, tf.int32))

        return advance


class Evolution:
    """A model that `NaturalEvolutionStrategies` trains: coordinates are what its directions count for."""

    KEYS = {"evolution": dict, "optimizer": dict}

    def __init__(self, trainer: NaturalEvolutionStrategies):
        if isinstance(trainer.optimizer, RandomBasesDescent):
            raise TypeError(
                "ReplayLog: optimizer of NaturalEvolutionStrategies is a RandomBasesDescent, which draws "
                "directions of its own; allowed: other optimizers."
            )
        self._trainer, self._optimizer = trainer, trainer.optimizer
        self._scheduled = _is_scheduled(trainer.optimizer)

    @property
    def variables(self) -> Sequence:
        return keras_api.trained_of(self._trainer.model.trainable_variables)

    def updates(self) -> int:
        return int(keras_api.updates_of(self._optimizer))

    @property
    def capacity(self) -> int:
        return 1

    def record(self, keep: Keep) -> None:
        self._trainer.record(keep)

    def begin(self) -> None:
        _refuse_exclusions(self._trainer.model, self._optimizer)

    @property
    def shape(self) -> Tuple[int, int]:
        return 1, self._trainer.directions

    def learning_rate(self) -> Union[float, Tensor]:
        return np.nan if self._scheduled else self._optimizer.learning_rate

    def describe(self) -> Dict[str, Any]:
        optimizer = keras.optimizers.serialize(self._optimizer)
        return {"evolution": self._trainer.update_config(), "optimizer": optimizer}

    @staticmethod
    def known_before(header: Dict[str, Any]) -> Dict[str, Any]:
        return {**header, "optimizer": _without_rate(header["optimizer"])}

    @staticmethod
    def check(header: Dict[str, Any]) -> None:
        config = header["evolution"]
        arguments.integer("directions", config["directions"], 1)
        arguments.positive("sigma", config["sigma"])
        for name in ("antithetic", "in_place"):
            arguments.boolean(name, config[name])
        dict(header["optimizer"]["config"])["learning_rate"]

    @staticmethod
    def again(header: Dict[str, Any], model: keras.Model) -> Advance:
        population = population_of(model, header["evolution"])
        offspring = InPlace(population) if header["evolution"]["in_place"] else None
        optimizer = keras.optimizers.deserialize(header["optimizer"])
        keras_api.build_optimizer(optimizer, population.variables)
        update = Update(population, optimizer, offspring)

        @tf.function
        def step(weights, number):
            if offspring is not None:
                offspring.disturb(number)
            update.apply(weights, number)

        def advance(rate, coordinates, number):
            if not np.isnan(rate):
                optimizer.learning_rate = rate
            step(tf.constant(coordinates), tf.constant(number, tf.int32))

        return advance


Mover = Union[Descent, Redraws, Evolution]


def of_model(model: keras.Model, trainer: Optional[NaturalEvolutionStrategies] = None) -> Mover:
    """What moves the weights of a model in a `fit`: of the model, or of `trainer` where that has one.

    Raises:
      TypeError: if its steps are no coordinates.
    """
    if trainer is not None:
        return Evolution(trainer)
    if isinstance(model, SubspaceModel) and model.redraw_every is not None:
        return Redraws(model)
    if not isinstance(model.optimizer, RandomBasesDescent):
        raise TypeError(
            f"ReplayLog: the model's optimizer is a {type(model.optimizer).__name__}; it must be a "
            "RandomBasesDescent, without a LossScaleOptimizer around it, or the model a SubspaceModel with "
            "redraw_every=k, or what trains it a NaturalEvolutionStrategies."
        )
    return Descent(model)


def of_header(header: Dict[str, Any]):
    """The class of what moved the weights in a log's run."""
    if "evolution" in header:
        return Evolution
    return Redraws if "subspace" in header else Descent


def _is_scheduled(optimizer) -> bool:
    """Whether a learning rate is a schedule's; not to be asked in a graph, where it fails."""
    return isinstance(optimizer.get_config()["learning_rate"], dict)


def _without_rate(optimizer: Dict[str, Any]) -> Dict[str, Any]:
    """A serialised optimizer without a learning rate that callbacks may set."""
    config = dict(optimizer["config"])
    if not isinstance(config["learning_rate"], dict):
        del config["learning_rate"]
    return {**optimizer, "config": config}


def _refuse_compiled_steps(model: keras.Model) -> None:
    if keras_api.step_is_compiled(model):
        raise ValueError("ReplayLog needs compile(..., jit_compile=False): see its docstring.")


def _refuse_exclusions(model: keras.Model, optimizer) -> None:
    """Raises if an optimizer's weight decay leaves out variables: its configuration does not tell."""
    if not getattr(optimizer, "weight_decay", None):  # Keras 2.6 has none
        return
    # Private: where both Keras remember it.
    excluded = [
        keras_api.path_of(v)
        for v in keras_api.trained_of(model.trainable_variables)
        if not optimizer._use_weight_decay(v)
    ]
    if excluded:
        raise ValueError(
            f"ReplayLog: exclude_from_weight_decay left out {excluded}, which an optimizer's configuration "
            "does not hold, so the run could not be replayed; train without weight decay or exclusions."
        )
