"""Our own column of Table 1: as many directions a step as the paper's, and a memory of what they do not see.

Error feedback (Karimireddy et al. 2019, arXiv:1901.09847) has SGD's own learning rate, as far as the
lateness of the gradient, D / d updates, allows: FC-FMNIST is not stable at SGD's 1/4, and has half of it.
"""

from experiments.paper import configurations, published, runs

_LESS = {"fc_fmnist": 2.0**-3}


def series(config: str) -> runs.Series:
    """The series of a network."""
    rate = _LESS.get(config, configurations.read(config).learning_rates["sgd"])
    return runs.series(config, "rbd", basis="hadamard", error_feedback=1.0, learning_rate=rate)


def described() -> str:
    """Where the rates come from, for readers of the table."""
    names = ", ".join(f"{published.NETWORKS[config]}'s is {rate:g}" for config, rate in _LESS.items())
    return f"learning rates are those of the paper's SGD; {names}, half of that"
