"""Bases whose random parts fit in memory: they are drawn once for a product with P and its transpose."""

from typing import Any, Tuple

from tensorflow import Tensor

from random_bases.bases.basis import Basis
from random_bases.bases.tiles import unknown_one

_MOST_ELEMENTS = 2**30


class DrawnBasis(Basis):
    """A basis of O(n) random numbers: signs, permutations, scales.

    Subclasses define `draw`, `project_drawn` and `expand_drawn`.

    Args:
      size: n, at most 2**30.
      dimensions: d.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    def __init__(self, size: int, dimensions: int):
        super().__init__(size, dimensions)
        if self.size > _MOST_ELEMENTS:
            raise ValueError(
                f"size={size} is too large for a {type(self).__name__}; allowed: <= {_MOST_ELEMENTS}."
            )

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Any:
        """The random parts; `one` is `random_bases.bases.tiles.unknown_one`."""
        raise NotImplementedError

    def project_drawn(self, v: Tensor, drawn: Any) -> Tensor:
        """P^T v."""
        raise NotImplementedError

    def expand_drawn(self, c: Tensor, drawn: Any) -> Tensor:
        """P c."""
        raise NotImplementedError

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        return self.project_drawn(v, self.draw(unknown_one(v), seed, draw, first))

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        return self.expand_drawn(c, self.draw(unknown_one(c), seed, draw, first))

    def sketch_drawn(self, v: Tensor, drawn: Any) -> Tuple[Tensor, Tensor]:
        """P^T v and P P^T v."""
        c = self.project_drawn(v, drawn)
        return c, self.expand_drawn(c, drawn)

    def trace_sketch(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        return self.sketch_drawn(v, self.draw(unknown_one(v), seed, draw, first))
