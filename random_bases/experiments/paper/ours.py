"""Our own column of Table 1: the best that the same number of directions a step reaches with the library.

Hadamard directions with Adam inside, or other means; rates were chosen on the training split alone, by the
accuracy on its (augmented) examples in the last epoch: `scripts/sweep.py`, results in results/sweeps/.
"""

from random_bases.experiments.paper import runs

_RATES = {}
_DEFAULT_RATE = 0.001


def series(config: str) -> runs.Series:
    """The series of a network."""
    return runs.series(
        config, "rbd", basis="hadamard", optimizer="adam", learning_rate=_RATES.get(config, _DEFAULT_RATE)
    )
