"""Our own column of Table 1: as many directions a step as the paper's, by what the library has beside.

Hadamard directions with Adam inside. Compartments change nothing (Figure 4). Rates are powers of two, the
best after five epochs by the accuracy on the (augmented) training examples alone: `scripts/sweep.py`.
"""

from random_bases.experiments.paper import published, runs

_SWEPT = {"fc_mnist": 2.0**-9, "fc_fmnist": 2.0**-10}
_DEFAULT = 0.001  # Adam's, where no sweep has run


def series(config: str) -> runs.Series:
    """The series of a network."""
    rate = _SWEPT.get(config, _DEFAULT)
    return runs.series(config, "rbd", basis="hadamard", optimizer="adam", learning_rate=rate)


def described() -> str:
    """Where the rates come from, for readers of the table."""
    names = ", ".join(published.NETWORKS[config] for config in _SWEPT)
    return (
        f"rates of {names} are the best of powers of two after five epochs, on training examples alone; "
        f"the other networks have Adam's default, {_DEFAULT:g}, not tuned"
    )
