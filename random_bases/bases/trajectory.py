"""Directions made of stored vectors: the weights that a network had while it was trained.

Both ways to make directions, Gram-Schmidt and principal components, give linear combinations of the n
vectors, so all that is computed is a matrix of coefficients: from the n x n inner products, which are
summed over blocks of elements in float64. The vectors may be memory-mapped and larger than memory;
neither a second copy of them nor anything of size D x D is made.
"""

import logging
from typing import Any, Dict, Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf

from random_bases.arguments import integer
from random_bases.bases.basis import Basis
from random_bases.tensors import float_tensor

# Of a block of elements of all vectors, in float64.
_BLOCK_BYTES = 2**25
# Inner products in float64 tell nothing below the square root of its precision.
_LEAST_TOLERANCE = 1e-7
# Components of less variance, as a fraction of the largest, are rounding.
_LEAST_VARIANCE = 1e-10
# The square of what float64 leaves of equal numbers when their mean is subtracted.
_ROUNDING = 1e-30


class TrajectoryBasis(Basis):
    """Explicit directions, kept in memory: nothing is drawn, so `seed`, `draw` and `first` do not matter.

    Usually made by `gram_schmidt` or `pca` from stored vectors. It cannot be described in a few bytes:
    models that use one are saved as the ordinary models that they materialize to.

    Args:
      size: n.
      dimensions: d.
      directions: floating-point array or tensor [d, n], a direction a row; kept as float32.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    seeded = False

    def __init__(self, size: int, dimensions: int, directions):
        super().__init__(size, dimensions)
        self.directions = tf.cast(float_tensor("directions", directions, (dimensions, size)), tf.float32)

    @classmethod
    def gram_schmidt(cls, vectors: Sequence[np.ndarray], tolerance: Optional[float] = None):
        """Orthonormal directions that span the vectors, as in TWA (Li et al. 2022, arXiv:2205.13104).

        See `gram_schmidt` for the arguments.
        """
        return cls.combined(gram_schmidt(vectors, tolerance), vectors)

    @classmethod
    def pca(cls, vectors: Sequence[np.ndarray], dimensions: int, centered: bool = True):
        """The vectors' principal components, as in DLDR (Li et al. 2021, arXiv:2103.11154).

        See `principal_components` for the arguments.
        """
        return cls.combined(principal_components(vectors, dimensions, centered), vectors)

    @classmethod
    def combined(cls, coefficients: np.ndarray, vectors: Sequence[np.ndarray]):
        """The directions A X.

        Args:
          coefficients: A, float64 [d, number of vectors].
          vectors: X, as in `gram_schmidt`.
        """
        directions = combine(coefficients, vectors)
        return cls(directions.shape[1], directions.shape[0], directions)

    def trace_project(self, v, seed, draw, first):
        return tf.linalg.matvec(self.directions, v)

    def trace_expand(self, c, seed, draw, first):
        return tf.matmul(c[tf.newaxis], self.directions)[0]

    def get_config(self) -> Dict[str, Any]:
        return {**super().get_config(), "directions": self.directions}

    def __repr__(self) -> str:
        return f"TrajectoryBasis(size={self.size}, dimensions={self.dimensions}, directions=...)"


def gram_schmidt(vectors: Sequence[np.ndarray], tolerance: Optional[float] = None) -> np.ndarray:
    """The coefficients of Gram and Schmidt's orthonormal directions, in the vectors' order.

    Each vector is orthogonalised twice against those before it, which is enough (Giraud et al. 2005);
    and the whole is done a second time on the result, so that what float64 loses in the inner products
    of nearly parallel vectors does not matter (as in Yamamoto et al. 2015, "CholeskyQR2"). What remains
    is the rounding of the directions to float32.

    Args:
      vectors: floating-point arrays [D], or one array [n, D]; may be memory-mapped.
      tolerance: a vector is left out, with a warning that gives its number, if the part of it that is
        orthogonal to those before it has at most this fraction of its length. None: 4 times the
        precision of the vectors' type, since weights that differ by less differ by their rounding.

    Returns:
      A, float64 [d, n], d <= n: the directions are the rows of A X, for X the vectors as rows.

    Raises:
      ValueError, TypeError: for vectors that are not allowed, or if all are zero.
    """
    dtype = _checked(vectors)
    if tolerance is None:
        tolerance = max(4 * float(np.finfo(dtype).eps), _LEAST_TOLERANCE)
    elif not _LEAST_TOLERANCE <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance!r} is not possible; allowed: {_LEAST_TOLERANCE} to 1.")
    coefficients, dropped = _orthonormalise(gram_matrix(vectors), tolerance)
    if not len(coefficients):
        raise ValueError("vectors are all zero.")
    if dropped:
        logging.getLogger("random_bases").warning(
            "Of %d vectors, these are left out, as nearly dependent on those before them: %s.",
            len(vectors),
            ", ".join(map(str, dropped)),
        )
    again, lost = _orthonormalise(gram_matrix(vectors, coefficients), 0.5)
    if lost:
        raise ValueError(
            f"vectors cannot be orthonormalised: what is left of numbers {lost} is rounding. Use a larger "
            f"tolerance than {tolerance}."
        )
    return again @ coefficients


def principal_components(vectors: Sequence[np.ndarray], dimensions: int, centered: bool = True) -> np.ndarray:
    """The coefficients of the components of largest variance, in decreasing order.

    Each component's sign is such that its largest coefficient is positive.

    Args:
      vectors: as in `gram_schmidt`.
      dimensions: how many components.
      centered: whether the vectors' mean is subtracted before.

    Returns:
      A, float64 [dimensions, n]: the components are the rows of A X, for X the vectors as rows.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value, or the vectors differ in fewer
        directions.
    """
    _checked(vectors)
    dimensions = integer("dimensions", dimensions, 1)
    values, basis = _spectrum(vectors, centered)
    rank = int(np.sum(values > _LEAST_VARIANCE * values[0]))
    if dimensions > rank:
        raise ValueError(
            f"dimensions={dimensions} is not possible; allowed: 1 <= dimensions <= {rank}, the number of "
            f"directions in which the {len(vectors)} vectors differ."
        )
    coefficients = (basis[:, :dimensions] / np.sqrt(values[:dimensions])).T
    largest = np.take_along_axis(coefficients, np.abs(coefficients).argmax(1)[:, np.newaxis], 1)
    coefficients *= np.sign(largest)
    return coefficients @ _centering(len(vectors)) if centered else coefficients


def explained_variance_ratio(vectors: Sequence[np.ndarray], centered: bool = True) -> np.ndarray:
    """The fraction of the vectors' variance along each principal component, float64 [n], decreasing.

    Args:
      vectors, centered: as in `principal_components`.

    Raises:
      ValueError, TypeError: for vectors that are not allowed, or that are all the same.
    """
    _checked(vectors)
    values, _ = _spectrum(vectors, centered)
    return values / values.sum()


def gram_matrix(vectors: Sequence[np.ndarray], coefficients: Optional[np.ndarray] = None) -> np.ndarray:
    """The inner products of the vectors, or of their combinations A X: float64 [n, n] or [d, d].

    Raises:
      ValueError: if a vector has values that are not finite, or all are the same after A.
    """
    count = len(vectors) if coefficients is None else len(coefficients)
    gram = np.zeros((count, count))
    for _, block in _blocks(vectors):
        if coefficients is not None:
            block = coefficients @ block
        gram += block @ block.T
    if not np.isfinite(gram).all():
        infinite = [i for i, vector in enumerate(vectors) if not np.isfinite(vector).all()]
        raise ValueError(f"vectors {infinite} have values that are not finite.")
    return gram


def combine(coefficients: np.ndarray, vectors: Sequence[np.ndarray]) -> np.ndarray:
    """A X, float32 [d, D]: linear combinations of the vectors."""
    combined = np.empty((len(coefficients), len(vectors[0])), np.float32)
    for begin, block in _blocks(vectors):
        combined[:, begin : begin + block.shape[1]] = coefficients @ block
    return combined


def _blocks(vectors: Sequence[np.ndarray]) -> Iterator:
    """(first element, float64 [n, elements]) of successive blocks of elements."""
    elements = max(1, _BLOCK_BYTES // (8 * len(vectors)))
    for begin in range(0, len(vectors[0]), elements):
        yield begin, np.stack([vector[begin : begin + elements] for vector in vectors]).astype(np.float64)


def _checked(vectors: Sequence[np.ndarray]) -> np.dtype:
    """The least precise type of vectors, if they are vectors."""
    if not len(vectors):
        raise ValueError("vectors is empty; at least one is needed.")
    for index, vector in enumerate(vectors):
        if not np.issubdtype(vector.dtype, np.floating):
            raise TypeError(f"vectors[{index}] has dtype {vector.dtype}; a floating-point one is needed.")
        if vector.ndim != 1 or vector.shape != vectors[0].shape or not vector.size:
            raise ValueError(
                f"vectors[{index}] has shape {vector.shape}; allowed: that of vectors[0], "
                f"{vectors[0].shape}, one-dimensional and not empty."
            )
    return max((vector.dtype for vector in vectors), key=lambda dtype: np.finfo(dtype).eps)


def _orthonormalise(gram: np.ndarray, tolerance: float):
    """(coefficients, numbers of the vectors left out): Gram-Schmidt where gram is the inner product."""
    kept = np.zeros((0, len(gram)))
    dropped = []
    for index, vector in enumerate(np.eye(len(gram))):
        length = gram[index, index]
        for _ in range(2):
            vector = vector - (kept @ (gram @ vector)) @ kept
        rest = vector @ gram @ vector
        if rest <= tolerance**2 * length:
            dropped.append(index)
        else:
            kept = np.vstack([kept, vector / np.sqrt(rest)])
    return kept, dropped


def _centering(count: int) -> np.ndarray:
    """The matrix that subtracts the mean of so many rows."""
    return np.eye(count) - 1 / count


def _spectrum(vectors: Sequence[np.ndarray], centered: bool):
    """(eigenvalues, eigenvectors as columns) of the inner products, in decreasing order; none negative."""
    values, basis = np.linalg.eigh(gram_matrix(vectors, _centering(len(vectors)) if centered else None))
    values = np.maximum(values[::-1], 0)
    squares = max(float(np.sum(np.square(vector, dtype=np.float64))) for vector in vectors)
    if values[0] <= _ROUNDING * len(vectors) * squares:
        raise ValueError("vectors have no variance: they are all the same.")
    return values, basis[:, ::-1]
