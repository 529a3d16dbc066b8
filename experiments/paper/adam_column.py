"""Our own column of Table 1: as many directions a step as the paper's, by what the library has beside.

Hadamard directions with Adam inside. Compartments change nothing (Figure 4). Rates are powers of two, chosen
by the accuracy on the (augmented) training examples alone after 100 epochs: what is best after five is too
large for a hundred, as redrawn directions go on being noisy.
"""

from experiments.paper import published, runs

_TUNED = {"fc_mnist": 2.0**-11, "fc_fmnist": 2.0**-11}
_DEFAULT = 0.001  # Adam's


def series(config: str) -> runs.Series:
    """The series of a network."""
    rate = _TUNED.get(config, _DEFAULT)
    return runs.series(config, "rbd", basis="hadamard", optimizer="adam", learning_rate=rate)


def described() -> str:
    """Where the rates come from, for readers of the table."""
    names = ", ".join(published.NETWORKS[config] for config in _TUNED)
    return (
        f"rates of {names} are the best of powers of two by training examples alone; "
        f"the other networks have Adam's default, {_DEFAULT:g}, not tuned"
    )
