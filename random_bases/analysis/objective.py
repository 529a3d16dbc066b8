"""The loss of a Keras model on given data, as a function of its trainable weights.

What the analyses differentiate and walk along. The model's own weights are read, never written.
"""

import functools
from collections import abc
from typing import Callable, Iterable, List, Optional, Sequence, Tuple, Union

import tensorflow as tf

from random_bases import keras_api
from random_bases.batches import counted, without_autotuning
from random_bases.keras_api import keras, mean_loss
from random_bases.tensors import densify

Tensors = List[tf.Tensor]
Loss = Union[str, Callable]


class Objective:
    """Mean loss of a model in inference mode, with its regularisers and added losses.

    Args:
      model: a built Keras model with at least one trainable weight. Models that read their weights in
        a `tf.function` of their own are refused when the loss is first taken.
      data: a pair (x, y), one batch of any size; or a finite iterable of such pairs that starts anew
        each time it is iterated (a list, a `tf.data.Dataset`).
      loss: a Keras loss, its name, or a function (y, predictions) -> losses. None: the one that the
        model was compiled with.

    Attributes:
      variables: the trainable weights.
      paths: their paths, "dense/kernel".

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    def __init__(self, model: keras.Model, data, loss: Optional[Loss] = None):
        self.variables = trainable(model)
        if loss is None:
            loss = getattr(model, "loss", None)
        if isinstance(loss, str):
            loss = keras.losses.get(loss)
        if not callable(loss):
            raise TypeError(f"loss={loss!r} must be one loss: a name, or a function (y, predictions).")
        self.model = model
        self.loss = loss
        self.data = data
        self.paths = [keras_api.path_of(variable) for variable in self.variables]
        self.shapes = [tuple(int(n) for n in variable.shape) for variable in self.variables]
        self._value = tf.function(functools.partial(self.trace, differentiated=False))
        self._gradient = tf.function(self.trace_gradient)

    def weights(self) -> Tensors:
        """The present values of the trainable weights, in their own dtypes."""
        return [keras_api.value_of(variable) for variable in self.variables]

    def trace(self, weights: Sequence[tf.Tensor], x, y, differentiated: bool = True) -> tf.Tensor:
        """The loss of one batch at `weights`, a float32 scalar; to be traced."""
        with keras_api.Substitution(self.variables, list(weights), differentiated) as substitution:
            predictions, added = substitution.call(self.model, x)
        losses = [mean_loss(self.loss, y, predictions), *added]
        return tf.add_n([tf.cast(each, tf.float32) for each in losses])

    def trace_gradient(self, weights: Sequence[tf.Tensor], x, y) -> Tensors:
        """The gradient of `trace` with respect to `weights`; to be traced."""
        weights = list(weights)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss = self.trace(weights, x, y)
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        return [densify(gradient, shape) for gradient, shape in zip(gradients, self.shapes)]

    def value(self, weights: Sequence[tf.Tensor]) -> float:
        """The loss of all data at `weights`, batches weighted by their numbers of examples."""
        return float(self.mean(functools.partial(self._value, list(weights))))

    def gradient(self, weights: Optional[Sequence[tf.Tensor]] = None) -> Tensors:
        """The gradient of `value` at `weights`, None being the present ones, in float32."""
        weights = self.weights() if weights is None else list(weights)
        return self.mean(functools.partial(self._gradient, weights))

    def mean(self, function: Callable):
        """The mean of function(x, y), tensors, over all data, batches weighted by their size.

        Raises:
          ValueError: if there is no batch.
        """
        total, examples = None, 0
        for (x, y), count in counted("data", batches(self.data)):
            part = tf.nest.map_structure(lambda t, n=count: n * tf.cast(t, tf.float32), function(x, y))
            total = part if total is None else tf.nest.map_structure(tf.add, total, part)
            examples += count
        return tf.nest.map_structure(lambda t: t / examples, total)

    def checked(self, name: str, tensors: Sequence) -> Tensors:
        """`tensors`, one of each weight's shape, as float32.

        Raises:
          TypeError: if it is no list or tuple.
          ValueError: if their number or shapes are others.
        """
        if not isinstance(tensors, (list, tuple)):
            raise TypeError(f"{name}={tensors!r} must be a list of tensors of the weights' shapes.")
        tensors = [tf.cast(tensor, tf.float32) for tensor in tensors]
        if [tuple(tensor.shape) for tensor in tensors] != self.shapes:
            found = [tuple(tensor.shape) for tensor in tensors]
            raise ValueError(f"{name} has shapes {found}; allowed: the weights', {self.shapes}.")
        return tensors

    def moved(self, direction: Sequence[tf.Tensor], by: float) -> Tensors:
        """The weights + `by` * `direction`."""
        return [w + tf.cast(by * d, w.dtype) for w, d in zip(self.weights(), direction)]


def trainable(model: keras.Model) -> List:
    """The trainable weights of a model.

    Raises:
      TypeError: if it is no Keras model.
      ValueError: if it is not built or has none.
    """
    keras_api.check_built(model, trainable=True)
    return list(model.trainable_variables)


def batches(data) -> Iterable[Tuple]:
    """`data`, a pair (x, y) or an iterable of pairs, as tensors."""
    if not isinstance(data, abc.Iterable):
        raise TypeError(f"data={data!r} must be a pair (x, y), or an iterable of such pairs.")
    if isinstance(data, tf.data.Dataset):
        data = without_autotuning(data)
    for pair in [data] if isinstance(data, tuple) else data:
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise ValueError(f"data must be a pair (x, y), or give such pairs, not {type(pair).__name__}.")
        yield tf.nest.map_structure(tf.convert_to_tensor, pair)


def inner(first: Sequence[tf.Tensor], second: Sequence[tf.Tensor]) -> float:
    """The inner product of two lists of tensors of equal shapes."""
    # Products of float32 are summed in float64: networks have 10^7 parameters.
    return float(
        sum(tf.reduce_sum(tf.cast(a, tf.float64) * tf.cast(b, tf.float64)) for a, b in zip(first, second))
    )
