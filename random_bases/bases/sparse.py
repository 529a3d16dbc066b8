"""Sparse random directions: most entries are zero, the others are signs of one size.

Achlioptas 2003, "Database-friendly random projections: Johnson-Lindenstrauss with binary coins", and
Li, Hastie and Church 2006, "Very sparse random projections".
"""

import math
from typing import Any, Dict, Union

from random_bases.arguments import plain
from random_bases.bases.basis import Basis
from random_bases.bases.dense import TILE, DenseBasis


class SparseBasis(DenseBasis):
    """n x d independent entries +-sqrt(1/density) with probability density, else 0, divided by sqrt(n).

    The entries are drawn as those of any `DenseBasis`: it is their distribution that is sparse, time
    and memory are those of the dense kinds.

    Args:
      size: n.
      dimensions: d.
      density: a number in (0, 1], the probability of an entry that is not zero; 1/3 (the default) as in
        Achlioptas 2003, or "sqrt" for 1/sqrt(n) as in Li, Hastie and Church 2006.
      generator, tile: as in `DenseBasis`.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    def __init__(
        self,
        size: int,
        dimensions: int,
        density: Union[float, str] = 1 / 3,
        generator: str = "counter",
        tile: int = TILE,
    ):
        Basis.__init__(self, size, dimensions)  # refuses what has no square root
        share = 1 / math.sqrt(size) if isinstance(density, str) and density == "sqrt" else density
        super().__init__(size, dimensions, "sparse", generator, tile, density=share)
        self.density = plain(density)

    def kind_of_entries(self) -> str:
        size = f" of {self.size}" if isinstance(self.density, str) else ""
        return super().kind_of_entries() + size

    def get_config(self) -> Dict[str, Any]:
        config = super().get_config()
        del config["distribution"]
        config["density"] = self.density
        return config
