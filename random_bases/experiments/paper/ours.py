"""Our own column of Table 1: the best that the same number of directions a step reaches with the library.

Hadamard directions with Adam inside. Rates are chosen on the training split alone, by the accuracy on its
(augmented) examples: `scripts/sweep.py` names the best. No network's has been swept yet: all have Adam's
default.
"""

from random_bases.experiments.paper import runs

_RATE = 0.001


def series(config: str) -> runs.Series:
    """The series of a network."""
    return runs.series(config, "rbd", basis="hadamard", optimizer="adam", learning_rate=_RATE)
