"""A step of `fit` that remembers what its directions do not see, against one that does not.

In processor time of all threads: the difference is small, and what else the machine does would hide it.
"""

import functools
import time
from typing import List

import random_bases as rb
from benchmarks.fit import CASES, STEPS_PER_EXECUTION, Case, fitter
from benchmarks.measure import Figure, alternate
from random_bases.keras_api import keras


def run() -> List[Figure]:
    """The figures of this part."""
    return [_compare(case) for case in CASES]


def _compare(case: Case) -> Figure:
    """A step that remembers what its directions do not see, against one that does not."""
    hundreds = max(1, case.sgd_steps // STEPS_PER_EXECUTION // 2)
    fitters = {
        name: fitter(
            case,
            rb.RandomBasesDescent(
                keras.optimizers.SGD(0.01), 250, basis="hadamard", error_feedback=name == "with", seed=0
            ),
        )
        for name in ("with", "without")
    }
    runs = {name: functools.partial(fit, hundreds) for name, fit in fitters.items()}
    seconds = alternate(runs, repeats=9, clock=time.process_time)
    per_step = {name: 10 * value / hundreds for name, value in seconds.items()}
    return Figure(
        f"fit step, processor time, {case.network}, RBD hadamard d = 250 with error feedback",
        "RBD without",
        per_step["with"],
        per_step["without"],
        "ms",
        per_step["with"] / per_step["without"],
        "<= 1.1",
    )
