"""NaturalEvolutionStrategies against evosax's Open_ES (JAX), each in a process.

The same two problems, start, population, sigma, learning rate, centred ranks and antithetic pairs; the
network with perturbations of ranks 1 and 2, too. evosax is on PyPI; say which Python has it, and where
mnist.npz is:

    PEER_PYTHON=/path/to/venv/bin/python DATA_DIR=/path/to/data python -m benchmarks --only=evolution
"""

import os
from typing import List

import numpy as np

from benchmarks.evolution_problems import PROBLEMS
from benchmarks.measure import Figure, in_process

# Measured of the 2020 implementation: FC-MNIST, 250 offspring, two cores, TensorFlow 2.1.
_MS_2020 = 2060.0
_SEEDS = 3
# Name -> basis and rank, as arguments of `benchmarks.evolution_ours`.
_PERTURBATIONS = {
    "quadratic": {"normal": ("normal",)},
    "fc_mnist": {
        "normal": ("normal",),
        "low_rank, rank 1": ("low_rank", 1),
        "low_rank, rank 2": ("low_rank", 2),
    },
}


def run() -> List[Figure]:
    """The loss at the end and the time of an update, ours and evosax's, processes alternately.

    Raises:
      ValueError: if PEER_PYTHON or DATA_DIR is not set.
    """
    if not {"PEER_PYTHON", "DATA_DIR"} <= set(os.environ):
        raise ValueError(
            "Set PEER_PYTHON (with evosax; see benchmarks/evolution.py) and DATA_DIR (mnist.npz)."
        )
    python, directory = os.environ["PEER_PYTHON"], os.environ["DATA_DIR"]
    figures = []
    for problem in PROBLEMS:
        perturbations = _PERTURBATIONS[problem]
        runs = [
            (
                in_process("benchmarks.evolution_theirs", problem, seed, directory, python=python),
                *(
                    in_process("benchmarks.evolution_ours", problem, seed, directory, *basis)
                    for basis in perturbations.values()
                ),
            )
            for seed in range(_SEEDS)
        ]

        def of(key, which, runs=runs):
            return float(np.median([each[which][key] for each in runs]))

        population, _, _, updates = PROBLEMS[problem]
        for which, each in enumerate(perturbations, start=1):
            name = f"{problem}, population {population}, {each}"
            loss, peer = of("loss", which), of("loss", 0)
            what = f"loss after {updates} updates, {name}"
            figures.append(Figure(what, "evosax Open_ES", loss, peer, "", loss / peer, "<= 1.02"))
            ms, peer = of("ms", which), of("ms", 0)
            figures.append(Figure(f"update, {name}", "evosax Open_ES", ms, peer, "ms", ms / peer))
    figures.append(Figure(f"update, {name}", "2020 code", ms, _MS_2020, "ms", ms / _MS_2020, "<= 1"))
    return figures
