"""What moves a model's weights in a run that is logged, and how its steps are repeated.

`Descent` and `Redraws` answer the same questions: `ReplayLog` asks them of a model, `replay` of a header.
"""

from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments, bases, keras_api
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
        config = model.optimizer.inner_optimizer.get_config()  # before a graph is built, where it fails
        self._scheduled = isinstance(config["learning_rate"], dict)

    @property
    def variables(self) -> Sequence:
        """The weights that it moves."""
        return keras_api.trained_of(self._model.trainable_variables)

    def updates(self) -> int:
        """How many it has made; `int` alone does not know Keras 3's mirrored variables."""
        return int(tf.convert_to_tensor(self._optimizer.iterations))

    def record(self, keep: Keep) -> None:
        """Has every step call `keep`."""
        self._optimizer.rule.record(keep)

    def begin(self) -> None:
        """Before the first step, of a model that is built.

        Raises:
          ValueError: for what a header cannot tell.
        """
        if self._optimizer.rule.subspace is None:
            keras_api.build_optimizer(self._optimizer, self._model.trainable_variables)
        _refuse_exclusions(self._model)

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
        optimizer = header["optimizer"]["inner_optimizer"]
        config = dict(optimizer["config"])
        if not isinstance(config["learning_rate"], dict):
            del config["learning_rate"]
        return {**header, "optimizer": {**optimizer, "config": config}, "untouched": None}

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

    def record(self, keep: Keep) -> None:
        self._model.record(keep)

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


Mover = Union[Descent, Redraws]


def of_model(model: keras.Model) -> Mover:
    """What moves a compiled model's weights.

    Raises:
      TypeError: if its steps are no coordinates.
    """
    if isinstance(model, SubspaceModel) and model.redraw_every is not None:
        return Redraws(model)
    if not isinstance(model.optimizer, RandomBasesDescent):
        raise TypeError(
            f"ReplayLog: the model's optimizer is a {type(model.optimizer).__name__}; it must be a "
            "RandomBasesDescent, without a LossScaleOptimizer around it, or the model a SubspaceModel with "
            "redraw_every=k."
        )
    return Descent(model)


def of_header(header: Dict[str, Any]):
    """The class of what moved the weights in a log's run."""
    return Redraws if "subspace" in header else Descent


def _refuse_exclusions(model: keras.Model) -> None:
    """Raises if the inner optimizer's weight decay leaves out variables: its configuration does not tell."""
    inner = model.optimizer.inner_optimizer
    if not getattr(inner, "weight_decay", None):  # Keras 2.6 has none
        return
    # Private: where both Keras remember it.
    excluded = [
        keras_api.path_of(v)
        for v in keras_api.trained_of(model.trainable_variables)
        if not inner._use_weight_decay(v)
    ]
    if excluded:
        raise ValueError(
            f"ReplayLog: exclude_from_weight_decay left out {excluded}, which an optimizer's configuration "
            "does not hold, so the run could not be replayed; train without weight decay or exclusions."
        )
