"""Curvature of the loss along directions: v^T H v, and the largest eigenvalues of H.

H v is the derivative along v of the gradient: forward over reverse (Pearlmutter 1994), two to three
times the time of a gradient and no memory for the outer derivative. TensorFlow cannot do that through
a loop of a graph (TF 2.21 refuses, TF 2.6 gives wrong numbers: both tried with `tf.while_loop`, which
recurrent layers use) or a condition (TF 2.21 refuses). A model whose graph has one is therefore
differentiated in reverse twice: the same product, with more memory.

A `tf.stop_gradient` can leave first derivatives right and make second ones wrong. `tf.nn.moments` stops
that of the mean inside the variance, where it is 0; its own derivative is not. In float64, products through
it are 6% to 9% off against differences of gradients, forward and reverse alike, in TF 2.6 and TF 2.21. Keras
3's `LayerNormalization` uses it, Keras 2's only where its fused operation cannot be used. Which of a
model's stopped gradients do harm a graph does not tell: models that have one are refused.
"""

import functools
import math
from typing import List, Optional, Sequence, Set

import numpy as np
import tensorflow as tf

from random_bases import arguments
from random_bases.analysis import objective
from random_bases.analysis.directions import draw
from random_bases.analysis.objective import Loss, Objective, Tensors
from random_bases.keras_api import keras
from random_bases.tensors import densify, size_of

_CONTROL_FLOW = ("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase")


class HessianVectorProduct:
    """v -> H v, H being the Hessian of a model's loss at its present weights.

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.

    Raises:
      ValueError: when called, if the model or its loss has a `tf.stop_gradient` inside: see the module.

    Example:
    >>> product = random_bases.analysis.curvature.HessianVectorProduct(model, (x, y))
    >>> product(direction)
    """

    def __init__(self, model: keras.Model, data, loss: Optional[Loss] = None):
        self.objective = Objective(model, data, loss)
        self.size = sum(size_of(shape) for shape in self.objective.shapes)
        self._product = None

    def __call__(self, direction: Sequence) -> Tensors:
        """H v in float32, of the weights' shapes.

        Args:
          direction: v, tensors of the weights' shapes.

        Raises:
          ValueError: if they have other shapes.
        """
        direction = self.objective.checked("direction", direction)
        weights = self.objective.weights()
        direction = [tf.cast(v, w.dtype) for v, w in zip(direction, weights)]
        return self.objective.mean(lambda x, y: self._program(weights, x, y)(weights, direction, x, y))

    def _program(self, weights, x, y):
        if self._product is None:
            trace = tf.function(functools.partial(self.objective.trace, differentiated=True))
            graph = trace.get_concrete_function(weights, x, y).graph
            found = operations(graph.as_graph_def())
            if "StopGradient" in found:
                raise ValueError(
                    f"model={self.objective.model.name!r} or its loss has a tf.stop_gradient inside (Keras "
                    "3's LayerNormalization has one): TensorFlow's second derivatives may be wrong."
                )
            straight = found.isdisjoint(_CONTROL_FLOW)
            self._product = tf.function(self._forward_over_reverse if straight else self._reverse_twice)
        return self._product

    def _forward_over_reverse(self, weights, direction, x, y) -> Tensors:
        with tf.autodiff.ForwardAccumulator(weights, direction) as accumulator:
            gradient = self.objective.trace_gradient(weights, x, y)
        zero = tf.UnconnectedGradients.ZERO
        return [accumulator.jvp(each, unconnected_gradients=zero) for each in gradient]

    def _reverse_twice(self, weights, direction, x, y) -> Tensors:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            gradient = self.objective.trace_gradient(weights, x, y)
            along = tf.add_n([tf.reduce_sum(g * v) for g, v in zip(gradient, direction)])
        products = tape.gradient(along, weights, unconnected_gradients="zero")
        return [densify(product, shape) for product, shape in zip(products, self.objective.shapes)]


def along(
    model: keras.Model, directions: Sequence[Sequence], data, loss: Optional[Loss] = None
) -> List[float]:
    """The curvature v^T H v / v^T v along each of `directions`.

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.
      directions: each a list of tensors of the weights' shapes, of any length but 0.

    Raises:
      ValueError: for a direction of other shapes, or of length 0.
    """
    return _along(HessianVectorProduct(model, data, loss), directions)


def top_eigenvalues(
    model: keras.Model,
    data,
    count: int = 5,
    loss: Optional[Loss] = None,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> np.ndarray:
    """The eigenvalues of the Hessian that are largest in absolute value, by Lanczos iteration (ARPACK).

    For models of up to some 10^6 parameters: about 2 `count` + 1 vectors of that size are kept.

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.
      count: how many, less than the number of parameters.
      seed: of the start vector, an int in [0, 2**32).
      tolerance: relative error of an eigenvalue, positive; products are float32, so not below about 1e-6.

    Returns:
      float64 [count], descending.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
      scipy.sparse.linalg.ArpackNoConvergence: if Lanczos does not converge.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # slow to import, and only needed here

    product = HessianVectorProduct(model, data, loss)
    count = arguments.integer("count", count, 1, product.size - 1)
    seed = arguments.integer("seed", seed, 0, 2**32 - 1)
    tolerance = arguments.positive("tolerance", tolerance)
    sizes = [size_of(shape) for shape in product.objective.shapes]
    borders = np.cumsum(sizes)[:-1]

    def multiply(vector):
        parts = np.split(np.asarray(vector, np.float32).ravel(), borders)
        direction = [part.reshape(shape) for part, shape in zip(parts, product.objective.shapes)]
        return np.concatenate([each.numpy().ravel() for each in product(direction)]).astype(np.float64)

    operator = LinearOperator((product.size, product.size), matvec=multiply, dtype=np.float64)
    start = np.random.RandomState(seed).normal(size=product.size)
    values = eigsh(operator, k=count, which="LM", v0=start, tol=tolerance, return_eigenvectors=False)
    return np.sort(values)[::-1]


def trace(model: keras.Model, data, samples: int = 10, seed: int = 0, loss: Optional[Loss] = None) -> float:
    """An estimate of the Hessian's trace: D times the mean curvature along random directions.

    Its relative standard deviation is about sqrt(2 / samples) |H|_F / tr(H) (Hutchinson 1989).

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.
      samples: the number of directions.
      seed: of them, an int in [0, 2**64).

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """
    product = HessianVectorProduct(model, data, loss)
    drawn = draw(model, arguments.integer("samples", samples, 1), arguments.seed(seed))
    return product.size * float(np.mean(_along(product, drawn)))


def error_feedback_limit(
    model: keras.Model,
    data,
    dimensions: int,
    samples: int = 10,
    seed: int = 0,
    loss: Optional[Loss] = None,
) -> float:
    """About the largest learning rate at which SGD with error feedback is stable: d / tr(H).

    For a quadratic, with the curvature at the present weights; docs/methods.md has how far it held. With
    `redraw_every=k` it is k times smaller, with momentum smaller by more than the step's length: 0.01 to
    0.1 times this with 0.9. More replicas do not make it smaller.

    Args:
      model, data, samples, seed, loss: as of `trace`.
      dimensions: d, of `RandomBasesDescent`.

    Returns:
      Infinity, if the estimate of the trace is not positive.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.

    Example:
    >>> limit = rb.analysis.curvature.error_feedback_limit(model, (x, y), dimensions=250)
    """
    dimensions = arguments.integer("dimensions", dimensions, 1)
    found = trace(model, data, samples, seed, loss)
    return dimensions / found if found > 0 else math.inf


class Curvature(keras.callbacks.Callback):
    """Adds curvatures to the logs after each epoch, for History, CSVLogger and TensorBoard after it.

    `curvature_gradient` is that along the gradient, `curvature_random` the mean over random directions,
    whose expectation is the trace of the Hessian over the number of parameters.

    Args:
      data, loss: as of `random_bases.analysis.objective.Objective`.
      directions: how many random directions; they are the same after every epoch.
      seed: of them, an int in [0, 2**64). None: one that Python's `random` draws; the attribute `seed`.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    def __init__(self, data, directions: int = 10, seed: Optional[int] = None, loss: Optional[Loss] = None):
        super().__init__()
        self._arguments = data, loss
        self._directions = arguments.integer("directions", directions, 1)
        self.seed = arguments.seed(seed)

    def on_train_begin(self, logs=None):
        del logs
        self._product = HessianVectorProduct(self.model, *self._arguments)
        self._drawn = draw(self.model, self._directions, self.seed)

    def on_epoch_end(self, epoch, logs=None):
        del epoch
        gradient = self._product.objective.gradient()
        logs["curvature_gradient"] = _along(self._product, [gradient])[0]
        logs["curvature_random"] = float(np.mean(_along(self._product, self._drawn)))


def operations(graph_def) -> Set[str]:
    """The kinds of operations in a graph and in the functions of its library."""
    nodes = [*graph_def.node, *(node for each in graph_def.library.function for node in each.node_def)]
    return {node.op for node in nodes}


def _along(product: HessianVectorProduct, directions: Sequence[Sequence]) -> List[float]:
    curvatures = []
    for i, direction in enumerate(directions):
        direction = product.objective.checked(f"directions[{i}]", direction)
        square = objective.inner(direction, direction)
        if square == 0:
            raise ValueError(f"directions[{i}] has length 0.")
        curvatures.append(objective.inner(direction, product(direction)) / square)
    return curvatures
