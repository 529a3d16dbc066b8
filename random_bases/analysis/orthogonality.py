"""How orthogonal random directions are: the cosines of pairs of them.

For independent entries that are symmetric about zero, E[cos^2] = 1 / n exactly: the cosine is
sum_i a_i b_i with unit vectors a and b, the signs make E[a_i b_i a_j b_j] = 0 for i != j, and
E[a_i^2] = 1 / n. So the standard deviation is 1 / sqrt(n) at every n, and random directions of a large
space are nearly orthogonal. Hadamard directions, and those of one block of the orthogonal basis, have
cosine 0 by construction.
"""

import math
from typing import Union

import numpy as np

from random_bases import arguments, bases
from random_bases.bases.basis import Basis
from random_bases.sampling.seeds import Seed


def directions(basis: Basis, seed: Seed, draw: int = 0) -> np.ndarray:
    """All directions of a basis, rows of a dense float32 [d, n]: for small d * n."""
    return np.stack(
        [basis.expand(row, seed, draw).numpy() for row in np.eye(basis.dimensions, dtype=np.float32)]
    )


def cosines(basis: Union[str, Basis], size: int, dimensions: int, seed: Seed = 0) -> np.ndarray:
    """The cosines of all pairs of directions of one draw, float64 [d (d - 1) / 2].

    Args:
      basis: as of `random_bases.bases.get`.
      size: n, the length of a direction.
      dimensions: d, at least 2 and at most n.
      seed: of the directions.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
      ZeroDivisionError: if a direction has length 0, as sparse ones of few elements may.
    """
    size = arguments.integer("size", size, 2)
    dimensions = arguments.integer("dimensions", dimensions, 2, size)  # one has no pair
    rows = directions(bases.get(basis, size=size, dimensions=dimensions), seed).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ZeroDivisionError(f"a direction of basis={basis!r} has length 0 at size={size}.")
    rows /= lengths
    return (rows @ rows.T)[np.triu_indices(dimensions, k=1)]


def expected_deviation(size: int) -> float:
    """The standard deviation of the cosine of two directions with independent entries: 1 / sqrt(n).

    Raises:
      TypeError, ValueError: if `size` is not an int of at least 1.
    """
    return 1 / math.sqrt(arguments.integer("size", size, 1))
