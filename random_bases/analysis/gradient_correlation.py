"""How much of a gradient random directions see: the cosine of P P^T g and g, in theory and measured.

Let P have d directions of n elements and u = g / |g|. Then cos = |P^T u|^2 / |P P^T u|.

* Orthonormal directions: P P^T is a projector, so cos = |P^T u|, and E[cos^2] = d / n exactly:
  cos ~ sqrt(d / n).
* Independent entries of variance 1 / n: E|P^T u|^2 = d / n, and for normal ones (Wishart moments)
  E|P P^T u|^2 = (d^2 + d (n + 1)) / n^2. So cos ~ sqrt(d / (n + d + 1)), which is sqrt(d / (D + d)).
  Other distributions differ from it in the order of their kurtosis / n, which is small but for very
  sparse directions. Those whose mean is not 0 have no such theory: they all share a direction.

A part of the vector, a layer say, has another formula, since all coordinates move it: the rest of the
gradient is noise there. `expected_parts` gives, element by element, E[g_e (P P^T g)_e] and
E[(P P^T g)_e^2] = A g_e^2 + B |g|^2. Whatever set of elements is of interest, its cosine is about
sum E[g_e (P P^T g)_e] / sqrt(sum g_e^2 sum E[(P P^T g)_e^2]). A layer of n_l parameters that has the
share f of |g|^2 so gets, for independent entries, sqrt(d / (d + 1 + n_l / f)).
"""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from random_bases import arguments
from random_bases.analysis.objective import Loss, Objective, inner
from random_bases.bases import DenseBasis, FastfoodBasis, HadamardBasis, OrthogonalBasis
from random_bases.bases.basis import Basis
from random_bases.compartments import Allocation, Compartments
from random_bases.keras_api import keras
from random_bases.sampling.seeds import Seed
from random_bases.subspace import Subspace
from random_bases.tensors import size_of


class Correlation(NamedTuple):
    """Cosines of a gradient and its part in random directions.

    Attributes:
      network: of all parameters.
      layers: layer -> of its parameters. NaN where the gradient of a layer is zero.
    """

    network: float
    layers: Dict[str, float]


def expected_cosine(size: int, dimensions: int, orthonormal: bool) -> float:
    """sqrt(d / n) for orthonormal directions, sqrt(d / (n + d)) for independent entries.

    Args:
      size: n.
      dimensions: d, 1 <= d <= n.
      orthonormal: which of the two.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """
    size = arguments.integer("size", size, 1)
    dimensions = arguments.integer("dimensions", dimensions, 1, size)
    return math.sqrt(dimensions / (size if orthonormal else size + dimensions))


def correlation(
    gradient: Sequence, subspace: Subspace, seed: Seed, draw=0, layers: Optional[Sequence[str]] = None
) -> Correlation:
    """The cosines of a gradient and its sketch P P^T g.

    Args:
      gradient: tensors of the subspace's shapes.
      subspace, seed, draw: give P.
      layers: the layer of each tensor; None: there are none to tell apart.

    Raises:
      ValueError: for a gradient of other shapes, or zero.
    """
    _, sketched = subspace.sketch(list(gradient), seed, draw)
    dots, squares = [], []
    for g, s in zip(gradient, sketched):
        dots.append(inner([g], [s]))
        squares.append((inner([g], [g]), inner([s], [s])))
    return _cosines(dots, squares, layers)


def expected(gradient: Sequence, subspace: Subspace, layers: Optional[Sequence[str]] = None) -> Correlation:
    """What `correlation` is in theory, over the draws of P: a ratio of expectations, see the module.

    Args:
      gradient, subspace, layers: as of `correlation`.
    """
    parts = expected_parts(gradient, subspace)
    squares = [(inner([g], [g]), float(square.sum())) for g, (_, square) in zip(gradient, parts)]
    return _cosines([float(dot.sum()) for dot, _ in parts], squares, layers)


def expected_parts(gradient: Sequence, subspace: Subspace) -> List[Tuple[np.ndarray, np.ndarray]]:
    """(E[g_e (P P^T g)_e], E[(P P^T g)_e^2]) of each element, float64 of each tensor's shape.

    Args:
      gradient: tensors of the subspace's shapes.
      subspace: P's distribution; compartments are independent. Orthonormal directions are taken as
        uniformly distributed, which Hadamard ones are not: for them the sums over a compartment are
        exact, single elements of a small one are not.

    Raises:
      ValueError: for a gradient of other shapes, or a basis without a theory: entries whose mean is not 0,
        or a class of the user's.
    """
    if [tuple(g.shape) for g in gradient] != subspace.shapes:
        found = [tuple(g.shape) for g in gradient]
        raise ValueError(f"gradient has shapes {found}; allowed: the subspace's, {subspace.shapes}.")
    order = subspace.order
    flat = np.concatenate([tf.cast(gradient[i], tf.float64).numpy().ravel() for i in order])
    dots, squares = np.empty_like(flat), np.empty_like(flat)
    start = 0
    for basis in subspace.compartment_bases:
        part = slice(start, start + basis.size)
        mean, own, shared = _moments(basis)
        square = flat[part] ** 2
        dots[part] = mean * square
        squares[part] = own * square + shared * square.sum()
        start += basis.size
    ends = np.cumsum([size_of(subspace.shapes[i]) for i in order])[:-1]
    parts = {
        i: (dot.reshape(subspace.shapes[i]), square.reshape(subspace.shapes[i]))
        for i, dot, square in zip(order, np.split(dots, ends), np.split(squares, ends))
    }
    return [parts[i] for i in range(len(parts))]


def layer_names(paths: Sequence[str]) -> List[str]:
    """The layer of each variable: its path without the last part ("dense/kernel": "dense")."""
    return [path.rpartition("/")[0] or path for path in paths]


def measure(
    model: keras.Model,
    data,
    dimensions: int,
    basis: Union[str, Basis] = "normal",
    compartments: Optional[Compartments] = None,
    allocation: Optional[Allocation] = None,
    seed: int = 0,
    draw: int = 0,
    loss: Optional[Loss] = None,
) -> Tuple[Correlation, Correlation]:
    """The cosines of a model's gradient and its sketch, measured and expected.

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.
      dimensions, basis, compartments, allocation, seed: as of `random_bases.RandomBasesDescent`.
      draw: the number of the redraw.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """
    objective = Objective(model, data, loss)
    dimensions = arguments.integer("dimensions", dimensions, 1)
    draw = arguments.integer("draw", draw, 0, 2**31 - 1)
    subspace = Subspace(objective.shapes, dimensions, basis, compartments, allocation, objective.paths)
    layers = layer_names(objective.paths)
    gradient = objective.gradient()
    return correlation(gradient, subspace, seed, draw, layers), expected(gradient, subspace, layers)


class GradientCorrelation(keras.callbacks.Callback):
    """Adds the cosine of the sketched and the true gradient to the logs after each epoch.

    `gradient_correlation` is the network's, `gradient_correlation/<layer>` a layer's, and
    `gradient_correlation_expected` (also by layer) what theory says. History, and CSVLogger and
    TensorBoard if they come after it in the list of callbacks, record them.

    Args:
      data, loss: as of `random_bases.analysis.objective.Objective`: where the gradient is taken.
      dimensions, basis, compartments, allocation, seed: as of `random_bases.RandomBasesDescent`. With
        `dimensions=None` the directions are those of the model's own `RandomBasesDescent`: the ones
        that its next update would use.
      layers: whether layers are recorded.

    Raises:
      TypeError, ValueError: for `dimensions` that is no int of at least 1, or a `seed` that is not allowed.
      ValueError: when training begins, if `dimensions` is None and the model's optimizer is another, or
        if the basis has no theory (see `expected_parts`).

    Example:
    >>> model.fit(x, y, epochs=10, callbacks=[GradientCorrelation((x[:1000], y[:1000]))])
    """

    def __init__(
        self,
        data,
        dimensions: Optional[int] = None,
        basis: Union[str, Basis] = "normal",
        compartments: Optional[Compartments] = None,
        allocation: Optional[Allocation] = None,
        seed: Optional[int] = None,
        layers: bool = True,
        loss: Optional[Loss] = None,
    ):
        super().__init__()
        self._data, self._loss, self._by_layer = data, loss, layers
        self._own = None
        if dimensions is not None:
            self._own = arguments.integer("dimensions", dimensions, 1), basis, compartments, allocation
        self.seed = arguments.seed(seed)

    def on_train_begin(self, logs=None):
        del logs
        self._objective = Objective(self.model, self._data, self._loss)
        self._layers = layer_names(self._objective.paths) if self._by_layer else None
        if self._own is None:
            self._optimizer = _random_bases_descent(self.model.optimizer)
            rule = self._optimizer.rule
            own = rule.dimensions, rule.basis, rule.compartments, rule.allocation
        else:
            own = self._own
        self._subspace = Subspace(self._objective.shapes, *own, self._objective.paths)
        for basis in self._subspace.compartment_bases:
            _moments(basis)  # refuses now, not after an epoch

    def on_epoch_end(self, epoch, logs=None):
        seed, draw = self.seed, epoch
        if self._own is None:
            rule = self._optimizer.rule
            seed, draw = rule.seed, rule.directions.draws(tf.convert_to_tensor(self._optimizer.iterations))
        gradient = self._objective.gradient()
        measured = correlation(gradient, self._subspace, seed, draw, self._layers)
        theory = expected(gradient, self._subspace, self._layers)
        for name, found in (("", measured), ("_expected", theory)):
            logs[f"gradient_correlation{name}"] = found.network
            for layer, cosine in found.layers.items():
                logs[f"gradient_correlation{name}/{layer}"] = cosine


def _random_bases_descent(optimizer):
    """The `RandomBasesDescent` of a model, also inside a `LossScaleOptimizer`."""
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if not hasattr(optimizer, "rule"):
        raise ValueError(
            f"dimensions=None takes the directions of a RandomBasesDescent, but the model's optimizer is "
            f"{type(optimizer).__name__}; give the number of directions."
        )
    return optimizer


def _moments(basis: Basis) -> Tuple[float, float, float]:
    """(M, A, B) of E[P P^T v] = M v and E[(P P^T v)_e^2] = A v_e^2 + B |v|^2."""
    n, d = basis.size, basis.dimensions
    if isinstance(basis, HadamardBasis):
        blocks = [d]
    elif isinstance(basis, OrthogonalBasis):
        blocks = [min(basis.block, d - start) for start in range(0, d, basis.block)]
    elif isinstance(basis, FastfoodBasis):
        blocks = [1] * d  # of unit length; taken as independent, although they are a little correlated
    elif isinstance(basis, DenseBasis) and basis.distribution.mean == 0:
        v = basis.distribution.variance
        return v * d / n, v**2 * (d * d + d) / n**2, v**2 * d / n**2
    else:
        raise ValueError(
            f"basis={basis!r} has no theory of its cosines; allowed: hadamard, orthogonal, fastfood, and "
            "bases of independent entries with mean 0."
        )
    # A sum of projectors of rank b, independent of each other. For one of them, Pi u = a u +
    # sqrt(a (1 - a)) w with a ~ Beta(b / 2, (n - b) / 2) and w uniform on the sphere orthogonal to u.
    own = shared = 0.0
    for b in blocks:
        square = b * (b + 2) / (n * (n + 2))  # E[a^2]
        across = (b / n - square) / (n - 1) if n > 1 else 0.0  # E[a (1 - a)] E[w_e^2], but for u_e^2
        own += square - across
        shared += across
    means = np.array(blocks) / n
    return d / n, own + float(means.sum() ** 2 - (means**2).sum()), shared


def _cosines(
    dots: Sequence[float], squares: Sequence[Tuple[float, float]], layers: Optional[Sequence[str]]
) -> Correlation:
    """Of each variable: the inner product, and the square lengths of the two vectors."""

    def cosine(members: Sequence[int]) -> float:
        product = math.prod(math.fsum(squares[i][side] for i in members) for side in (0, 1))
        return math.fsum(dots[i] for i in members) / math.sqrt(product) if product > 0 else math.nan

    network = cosine(range(len(dots)))
    if math.isnan(network):
        raise ValueError("gradient is zero, or its sketch is: there is no angle between them.")
    members: Dict[str, List[int]] = {}
    for i, layer in enumerate(layers or ()):
        members.setdefault(layer, []).append(i)
    return Correlation(network, {layer: cosine(of) for layer, of in members.items()})
