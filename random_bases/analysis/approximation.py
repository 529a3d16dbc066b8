"""How well d random directions approximate a gradient, and training, as d grows over decades.

A sketched gradient's cosine grows as sqrt(d / D): a linear gain needs exponentially many directions
(Gressmann et al. 2020, and their article). With orthonormal directions it ends at d = D, where
P P^T = I and random bases descent is SGD.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple, Union

from random_bases import arguments
from random_bases.analysis import gradient_correlation
from random_bases.bases.basis import Basis
from random_bases.sampling.seeds import Seed
from random_bases.subspace import Subspace
from random_bases.tensors import size_of


class Point(NamedTuple):
    """Cosines of a gradient and its sketches in d directions.

    Attributes:
      dimensions: d.
      cosines: of each draw.
      expected: by theory.
    """

    dimensions: int
    cosines: Tuple[float, ...]
    expected: float


def cosines(
    gradient: Sequence,
    dimensions: Sequence[int],
    basis: Union[str, Basis] = "normal",
    draws: int = 5,
    seed: Seed = 0,
) -> List[Point]:
    """The cosine of a gradient and its sketch against the number of directions.

    Args:
      gradient: tensors.
      dimensions: each d, from 1 to the number of parameters.
      basis: as of `random_bases.bases.get`.
      draws: how often directions are drawn for each d.
      seed: of the directions.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """
    draws = arguments.integer("draws", draws, 1)
    parameters = sum(size_of(g.shape) for g in gradient)
    points = []
    for d in arguments.integers("dimensions", dimensions, 1, parameters):
        subspace = Subspace([g.shape for g in gradient], d, basis)
        found = [
            gradient_correlation.correlation(gradient, subspace, seed, draw).network for draw in range(draws)
        ]
        points.append(Point(d, tuple(found), gradient_correlation.expected(gradient, subspace).network))
    return points


def decades(largest: int, per_decade: int = 2, smallest: int = 10) -> List[int]:
    """Numbers of directions spread evenly in their logarithm, from `smallest` to `largest`, both included.

    Raises:
      TypeError: for an argument that is no int.
      ValueError: unless 1 <= smallest < largest and `per_decade` is at least 1.
    """
    smallest = arguments.integer("smallest", smallest, 1)
    largest = arguments.integer("largest", largest, smallest + 1)
    per_decade = arguments.integer("per_decade", per_decade, 1)
    steps = math.ceil(per_decade * math.log10(largest / smallest) - 1e-9)
    return sorted({*(round(smallest * 10 ** (i / per_decade)) for i in range(steps)), largest})


def learning_rate(sgd_rate: float, most: float, dimensions: int, parameters: int) -> float:
    """A rate for d directions that moves as SGD with `sgd_rate` does, but at most `most`.

    E[P P^T] = (d / D) I: at rate r, random bases descent moves like SGD at r d / D. So r = sgd_rate D / d
    would be the same speed, and at d = D is the same method. But the update's length, r |P P^T g|, is
    then sqrt(D / d) times SGD's, nearly all of it noise: at small d, r must stay below a limit.

    Args:
      sgd_rate: SGD's.
      most: the limit, such as the paper's rate for d = 250.
      dimensions: d.
      parameters: D.

    Raises:
      TypeError: for an argument that is no number.
      ValueError: unless both rates are positive and 1 <= d <= D.
    """
    sgd_rate, most = arguments.positive("sgd_rate", sgd_rate), arguments.positive("most", most)
    parameters = arguments.integer("parameters", parameters, 1)
    dimensions = arguments.integer("dimensions", dimensions, 1, parameters)
    return min(most, sgd_rate * parameters / dimensions)
